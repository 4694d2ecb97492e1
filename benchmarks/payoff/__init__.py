"""Does converting pay? Tasks × recipes × arms × seeds, each cell a JSON file; ``docs/payoff.md`` is made from them.

    python -m benchmarks.payoff.run       # what is missing
    python -m benchmarks.payoff.page      # docs/payoff.md and its pictures

``schedule`` says which cells there are, ``tasks`` what is learnt, ``arms`` what a trained model becomes before it is trained on,
``recipes`` how. Real digits on real photos: ``material`` and ``pictures``.
"""
