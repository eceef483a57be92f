"""Settings: read once from the environment and `.env` (`environment`), checked together, never shown.

`declared` has them all, `checks` what their values must be.
"""

from app.settings.checks import split_place, wheel_zone
from app.settings.declared import SANDBOX, SECRETS, Settings
from app.settings.environment import SettingsError, from_environment, load_settings, read_env_file

__all__ = [
    "SANDBOX",
    "SECRETS",
    "Settings",
    "SettingsError",
    "from_environment",
    "load_settings",
    "read_env_file",
    "split_place",
    "wheel_zone",
]
