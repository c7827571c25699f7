"""How a duel is turned into pictures: shapes on an array of pixels, no display, no libraries.

``canvas`` knows shapes and text, ``above`` and ``first_person`` the two views of a fight, and
``files`` writes PNG and GIF. :mod:`skilldistill.duel.render` is the way in.
"""
