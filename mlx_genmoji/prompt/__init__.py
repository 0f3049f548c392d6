from .compose import PERSON_TYPES, SKIN_TONES, compose
