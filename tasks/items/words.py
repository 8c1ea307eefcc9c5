"""The words that arithmetic and logic items for any model are made of."""

KINDS = {
    "known words": """
        actors bakers climbers cyclists dancers drummers farmers fishers gardeners hikers jugglers lawyers nurses
        painters pilots poets runners sailors singers swimmers tailors teachers
    """.split(),
    "made-up words": """
        blickets brolds daxes drups fendles feps gorps klets mips plons quibs ronks snerks tofes trelms vops wugs
        yimps zavs zorbs
    """.split(),
}
"""Plural nouns: what people can be, and words without a meaning."""
PROPERTIES = """
    bright costly damp dusty famous fragile heavy hollow loud old rare red round safe sharp smooth soft sticky
    striped sweet useful warm wide wooden
""".split()
OBJECTS = "bell box chair cup drum jar kite lamp ring toy".split()
CLUBS = (
    *("art club", "band", "book club", "chess club", "choir"),
    *("dance class", "film club", "football team", "hiking group", "swim team"),
)
EVENTS = "concert exam flight interview lecture match party race trip wedding".split()
THINGS = "apples beads books buttons cards coins cookies marbles pencils shells stamps stickers".split()
BOXES = (("bag", "bags"), ("basket", "baskets"), ("box", "boxes"), ("crate", "crates"), ("jar", "jars"))
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
