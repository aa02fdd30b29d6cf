"""The weights of `scenes-flow` and of its weak twin, which `cfglab.load("scenes-flow")` reads."""
