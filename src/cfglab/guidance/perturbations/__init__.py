"""Further predictions: what is changed when rows are run once more, one kind of change a file. Methods ask for them.

- `attention`: self-attention made the identity, or its queries blurred (PAG, SEG)
- `blur`: the sample blurred where self-attention looks (SAG)
- `layers`: layers left out, named or drawn (SLG, S2, a variant of autoguidance)
- `models`: another network, by its name (autoguidance)
- `texts`: noise in the encodings of the text (ICG, CADS)
- `times`: noise in the embedding of the time step (TSG)
- `hooks` finds the layers and takes the hooks away again; `row_noise` draws each row's own noise.

A method whose change is a few lines has it in its own file: prompts, and attention to a further text (NAG).
"""
