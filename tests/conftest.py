"""How the property tests run: a busy machine may be slow, that is no failure; a failure tells how to repeat it."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gcount",
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gcount")
