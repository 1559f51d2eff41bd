"""Every bar that a claim must pass, fixed before anything is measured, with where it comes from."""

# Units ablated alone, the most influential first, and what counts as enough of them to judge by.
TOP = 50
FEWEST = 8

# How much of a node is taken away, besides all of it: half, and twice (METHODS 7.5, with 1 the doses -0.5, -1, -2).
DOSES = (0.5, 2.0)
# Share of sizeable nodes whose effect must grow with the dose, one way. Ours: as for signs.
MONOTONE = 0.8

# Share of the MLP outputs, squared, that features may miss. Ours: a graph that leaves out more than it says explains
# the lesser part.
MISSED = 0.5

# Difference of an edge's weight from what its experiment gives, as a share of the target's gross input. Exact but for
# rounding: float32 runs of twelve layers leave about 1e-6 (SPEED 1); circuit-tracer's own tests allow 5e-4.
EXACT = 1e-4

# Random sets of units that a graph is held against. With 20, the smallest p is 1/21 = 0.048.
CONTROLS = 20
SIGNIFICANT = 0.05
# As many when there is time for all experiments.
MANY = 100

# Points of a curve between no unit and all of the graph's, and random sets that it is held against at each.
POINTS = 8
CURVES = 20
# Other prompts whose activations take the place of ablated ones.
RESAMPLED = 4

# Graphs that should do worse: of other prompts, of shuffled decoders, of a model of shuffled weights.
OTHERS = 20

# Random units added to the graph, that a unit of it must outdo, and how many of them (shi: q* = 0.9).
REFERENCES = 100
OUTDONE = 0.9
# Share of the graph's units that must do so. Ours; Shi et al. find a fifth of a published circuit's edges removable.
NEEDFUL = 0.8

# The model's own prompts that mean activations are taken over, and how long they are at most, in tokens: as long as the
# prompt, but a mean over some thousand positions does not get better by more of them.
PROMPTS = 64
LONGEST = 64

# Spearman of influence with the KL that ablation caused. Circuit Tracing reports 0.72 for feature -> feature effects;
# half of the rank order is asked for here, and more than a shuffled order gives.
RANKS = 0.5
SHUFFLES = 1000

# Pairs of a node and a unit further on that are recorded at most, those of the most influence first.
PAIRS = 5_000

# Units that are disturbed in the real and in the replacement model, the most influential first; and by how much of
# itself each one's value is to rise. METHODS 7.2, level 4, has 0.1.
DISTURBED = 16
RAISED = 0.1
# Cosine of what the replacement model's next layer writes in answer with what the real one's does. Circuit Tracing
# reports about 0.8 one layer on, there with the disturbance itself counted in, which makes it easier.
COSINE = 0.8

# Shares of influence that the trace is pruned to, to see what hangs on them (METHODS 5.3, which has the nodes').
GRID_NODES = (0.7, 0.75, 0.8, 0.85, 0.9)
GRID_EDGES = (0.95, 0.98, 0.99)

# Share of the features' influence that graphs of the same question in other words must have too. Ours: the better
# part.
SURVIVES = 0.5

# Examples that the tests over examples want, and the margin of equivalence (Shi et al. 2024; METHODS 7.4: with fewer no
# circuit can be shown equivalent).
EXAMPLES = 68
MARGIN = 0.1

# Slope of measured on predicted change: METHODS 7.7, the interval for "predicts".
SLOPE = (0.5, 1.5)
# Share of ablations that move the target the way predicted, among those predicted to move it by 5 % of itself (7.4).
SIGNS = 0.8
SIZEABLE = 0.05
# As many as there must be of those before slope and signs say anything.
SEVERAL = 3

# Share of the logit difference that the graph's units keep alone, or that is lost without them. The common bar for a
# faithful circuit (Wang et al. 2022 report 0.87 for the IOI circuit).
FAITHFUL = 0.8

# A logit difference that ablating everything moves by less than this leaves nothing to take shares of. In logits.
SMALLEST = 0.1
# The same for a feature's value, as a share of it. Ours.
SMALLEST_SHARE = 0.1
