"""What a clip's file says of itself to others: that it is made by AI.

source_types  the words for it, of IPTC
xmp           those words as standard metadata, in each file
credentials   certificate and key of somebody who signs clips
signing       the same words, signed (C2PA); needs the extra `c2pa`
"""
