// Moves the drawn drive: the page is whole without this script, it only stands still then.
(() => {
  "use strict";
  const MARK_M = 3;
  const PERIOD_M = 12;
  const NEAREST_M = 5;
  const FARTHEST_M = 110;

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("replay-data").textContent);
  const figure = byId("drive");
  if (data.times.length < 2) return;

  // Hundredths of a second. No result for that long means that nothing is known; a thinned replay steps farther.
  const LOST_AFTER = Math.max(40, 3 * usualStep(data.times));
  const slider = byId("time");
  const play = byId("play");
  const tracks = byId("tracks");
  const SVG = tracks.namespaceURI;
  const marks = byId("marks");
  const fault = byId("fault");
  const here = byId("here");
  const driven = drivenMetres(data.speed);
  let now = data.times[data.start] / 100;
  let playingSince = null;

  function usualStep(times) {
    const steps = times.slice(1).map((t, i) => t - times[i]);
    return steps.sort((a, b) => a - b)[steps.length >> 1];
  }

  function drivenMetres(speeds) {
    const metres = [0];
    for (const kmh of speeds) metres.push(metres[metres.length - 1] + (kmh / 3.6) * data.every);
    return metres;
  }

  const sample = (values, t) => values[Math.min(values.length - 1, Math.floor(t / data.every))];

  function metresAt(t) {
    const at = Math.min(driven.length - 1, t / data.every);
    const whole = Math.floor(at);
    const next = driven[Math.min(driven.length - 1, whole + 1)];
    return driven[whole] + (next - driven[whole]) * (at - whole);
  }

  // The last index whose value is at most `wanted`, or -1.
  function lastUpTo(values, wanted) {
    let low = -1;
    let high = values.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (values[middle] <= wanted) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  function boxesAt(hundredths) {
    const k = lastUpTo(data.times, hundredths);
    if (k < 0 || hundredths - data.times[k] > LOST_AFTER) return [];
    const following = data.times[k + 1];
    if (following === undefined || following - data.times[k] > LOST_AFTER) return data.boxes[k];
    const share = (hundredths - data.times[k]) / (following - data.times[k]);
    const later = new Map(data.boxes[k + 1].map((box) => [box[0], box]));
    return data.boxes[k].map((box) => {
      const to = later.get(box[0]);
      return to ? box.map((edge, i) => (i ? edge + (to[i] - edge) * share : edge)) : box;
    });
  }

  function set(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  }

  function pooled(parent, count, make) {
    while (parent.childElementCount < count) parent.append(make());
    while (parent.childElementCount > count) parent.lastElementChild.remove();
    return parent.children;
  }

  function newTrack() {
    const group = document.createElementNS(SVG, "g");
    for (const name of ["ellipse", "rect", "text"]) group.append(document.createElementNS(SVG, name));
    group.firstChild.setAttribute("class", "shadow");
    return group;
  }

  // Nearest first: who would write over a nearer one's name goes without.
  function named(boxes) {
    const size = parseFloat(getComputedStyle(tracks).fontSize);
    const taken = [];
    for (const box of [...boxes].sort((a, b) => b[4] - a[4])) {
      const wide = 0.6 * size * data.tracks[box[0]][0].length;
      const free = ([, x, y]) => Math.abs(y - box[2]) > 1.3 * size || Math.abs(x - box[1]) > wide;
      if (taken.every(free)) taken.push(box);
    }
    return new Set(taken.map((box) => box[0]));
  }

  function drawTracks(boxes) {
    const groups = pooled(tracks, boxes.length, newTrack);
    const names = named(boxes);
    [...boxes].sort((a, b) => a[4] - b[4]).forEach(([track, x1, y1, x2, y2], i) => {
      const [shadow, rect, text] = groups[i].children;
      const wide = x2 - x1;
      const tall = y2 - y1;
      groups[i].setAttribute("class", `track c${data.tracks[track][1]}`);
      set(shadow, { cx: (x1 + x2) / 2, cy: y2, rx: wide * 0.58, ry: Math.max(2, wide * 0.05) });
      set(rect, { x: x1, y: y1, width: wide, height: tall, rx: Math.min(6, tall / 6) });
      set(text, { x: x1, y: y1 - 8, display: names.has(track) ? "inline" : "none" });
      if (text.textContent !== data.tracks[track][0]) text.textContent = data.tracks[track][0];
    });
  }

  function drawMarks(t) {
    const below = data.height - data.horizon;
    const middle = data.width / 2;
    const row = (z) => data.horizon + (below * NEAREST_M) / z;
    const column = (x, z) => middle + data.metre * x * (NEAREST_M / z);
    const ahead = PERIOD_M - (metresAt(t) % PERIOD_M);
    let d = "";
    for (let z = ahead - PERIOD_M; z < FARTHEST_M; z += PERIOD_M) {
      const near = Math.max(z, NEAREST_M * 0.9);
      const far = z + MARK_M;
      if (far <= near) continue;
      for (const x of data.lines) {
        const corner = (dx, depth) => `${column(x + dx, depth).toFixed(1)} ${row(depth).toFixed(1)}`;
        d += `M${corner(-0.07, near)}L${corner(-0.07, far)}L${corner(0.07, far)}L${corner(0.07, near)}Z`;
      }
    }
    set(pooled(marks, 1, () => document.createElementNS(SVG, "path"))[0], { d });
  }

  function drawFault(t) {
    const current = data.faults.filter(([, , start, end]) => t >= start && t <= Math.max(end, start + 1.5));
    fault.hidden = current.length === 0;
    fault.textContent = current.map(([letter, label]) => `${letter}  ${label}`).join("   ");
  }

  function show(t) {
    now = Math.min(data.end, Math.max(0, t));
    const boxes = boxesAt(now * 100);
    drawMarks(now);
    drawTracks(boxes);
    drawFault(now);
    figure.style.setProperty("--t", now / data.end);
    const speed = data.speed.length ? `${Math.round(sample(data.speed, now))} km/h` : "";
    if (speed) byId("speed").textContent = speed;
    if (data.brake.length) byId("brake").textContent = `${Math.round(sample(data.brake, now))} %`;
    slider.value = Math.round(now * 100);
    const seen = boxes.length === 1 ? "1 track" : `${boxes.length} tracks`;
    slider.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds, ${seen} in view${speed && `, ${speed}`}`);
    byId("clock").textContent = `${now.toFixed(1)} s, ${seen} in view`;
    if (here) moveHere();
  }

  function moveHere() {
    const place = data.route[Math.max(0, lastUpTo(data.route.map(([t]) => t), now))];
    set(here, { cx: place[1], cy: place[2] });
  }

  function step(stamp) {
    if (playingSince === null) return;
    const t = (stamp - playingSince) / 1000;
    show(t);
    if (t >= data.end) pause();
    else requestAnimationFrame(step);
  }

  function start() {
    const from = now >= data.end - 0.05 ? 0 : now;
    playingSince = performance.now() - from * 1000;
    play.textContent = "Pause";
    requestAnimationFrame(step);
  }

  function pause() {
    playingSince = null;
    play.textContent = "Play";
  }

  const toggle = () => (playingSince === null ? start() : pause());

  slider.max = Math.round(data.end * 100);
  slider.addEventListener("input", () => {
    pause();
    show(slider.value / 100);
  });
  slider.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
  play.addEventListener("click", toggle);
  figure.querySelector(".controls").hidden = false;
  figure.classList.add("moving");
  show(now);
})();
