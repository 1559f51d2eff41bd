"""Words that several tasks draw from."""

WOMEN = """
Mary Alice Carol Emma Grace Irene Kate Nora Paula Sarah Ursula Wendy Anna Laura Jennifer Jessica Lisa Rachel Susan Amy
Elizabeth Emily Linda Michelle Maria Amanda Melissa Stephanie Rebecca Nicole Christina Patricia Barbara Karen Helen
Lily Sara Sue Mia
""".split()
MEN = """
John Bob David Frank Henry Jack Leo Oscar Robert Tom Victor Peter James Michael Daniel Paul Mark George Kevin Steven
Andrew Richard Thomas Matthew William Joseph Charles Brian Christopher Joshua Anthony Ryan Justin Adam Eric
Tim Timmy Ben Max Sam
""".split()
NAMES = [name for both in zip(WOMEN, MEN, strict=False) for name in both]

PLACES = """
store school station office garden museum market library house restaurant hospital park beach church theatre shop
""".split()
THINGS = """
drink book letter ball ticket coin basket lamp ring computer phone necklace bone snack kiss card picture hat
""".split()
PEOPLE = """
teacher student driver author pilot doctor manager farmer senator boy girl lawyer king guest actor singer officer
minister writer player neighbor
""".split()
NOUNS = PEOPLE + "key cabinet truck dog tree novel plane car house boat bird picture window door table chair".split()
