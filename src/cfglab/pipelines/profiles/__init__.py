"""How each diffusers pipeline class lays out its predictions."""
