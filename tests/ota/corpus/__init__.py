"""Bad updates, each with one defect, its class, and a twin without the defect that is taken.

`python -m tests.ota.corpus` lists them. A case begins with what the product's own desk published, taken apart into
plain JSON, keys and bytes (draft.py); one act makes the bad set of it, and whatever hangs on what was changed is signed
anew by the right keys. So the defect alone is why it is refused. vehicle.py takes twin and bad set through the
product's own way: a look, and an installation.
"""
