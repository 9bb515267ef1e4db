"""What a run costs, and whether its device can hold it.

arithmetic.py  parameters, FLOPs, memory, GPU-hours, with their sources
capacity.py    whether a run fits its device, and what would make it fit
"""
