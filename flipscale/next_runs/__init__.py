"""Which runs to add to a study, so that what is asked becomes as certain as possible for their cost.

choice.py       runs chosen one after the other, by what each tells about a quantity for its cost
quantities.py   what can be asked of a study: claims, speed-ups, parameters of laws, forecasts
proposal.py     the runs that a study could add, those that are chosen, and the study file with them
rung.py         the best model and samples for a larger budget

Data in, data out: nothing here touches a disk.
"""

from flipscale.next_runs.choice import Candidate, Quantity, choose
from flipscale.next_runs.proposal import Proposal, further_values, proposal_parts, propose, study_with, with_grids
from flipscale.next_runs.rung import Rung, rung_parts

__all__ = [
    "Candidate",
    "Proposal",
    "Quantity",
    "Rung",
    "choose",
    "further_values",
    "proposal_parts",
    "propose",
    "rung_parts",
    "study_with",
    "with_grids",
]
