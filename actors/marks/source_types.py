"""IPTC's words for how media came about: https://cv.iptc.org/newscodes/digitalsourcetype/."""

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # an identifier, which nobody has to fetch

# By a model that was trained on captured content.
MADE_BY_AI = f"{_VOCABULARY}trainedAlgorithmicMedia"
# By a program without such a model, from captured content.
ALTERED = f"{_VOCABULARY}algorithmicallyEnhanced"
