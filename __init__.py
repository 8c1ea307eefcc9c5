"""memsplit: did this weight edit remove verbatim memorization and leave reasoning alone?"""
