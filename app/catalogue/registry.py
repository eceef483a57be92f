"""The catalogue: every endpoint that a file in `endpoints/` describes."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module

from app.catalogue import endpoints
from app.catalogue.endpoint import Category, Endpoint


class Catalogue:
    """Endpoints by category and name. A model's short name may stand in several categories."""

    def __init__(self, served: Iterable[Endpoint]) -> None:
        self.endpoints = tuple(sorted(served, key=lambda endpoint: (endpoint.category, endpoint.id)))
        self._by_name: dict[tuple[str, str], Endpoint] = {}
        for endpoint in self.endpoints:
            for name in (endpoint.id, endpoint.model):
                if self._by_name.setdefault((endpoint.category, name), endpoint) is not endpoint:
                    message = f"two {endpoint.category} endpoints are called {name}"
                    raise ValueError(message)

    def find(self, category: Category, name: str) -> Endpoint | None:
        """By our short name or by fal's endpoint id."""
        return self._by_name.get((category, name))

    def by_id(self, endpoint_id: str) -> Endpoint | None:
        """By fal's endpoint id alone, as a job's row has it."""
        return next((endpoint for endpoint in self.endpoints if endpoint.id == endpoint_id), None)

    @property
    def image_types(self) -> frozenset[str]:
        """The content types of images that any endpoint takes."""
        return frozenset(kind for endpoint in self.endpoints for kind in endpoint.image_types)

    @property
    def image_bytes(self) -> int:
        """How large an image may be that any endpoint takes."""
        return max((endpoint.image_bytes for endpoint in self.endpoints), default=0)

    def models(self, category: Category) -> list[str]:
        """Every name that this category's route takes."""
        return [name for kind, name in self._by_name if kind == category]


def load_catalogue() -> Catalogue:
    """Read every file of `app/catalogue/endpoints/`."""
    names = sorted(module.name for module in pkgutil.iter_modules(endpoints.__path__))
    return Catalogue(import_module(f"{endpoints.__name__}.{name}").ENDPOINT for name in names)
