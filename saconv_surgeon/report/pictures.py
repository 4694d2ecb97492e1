"""Small pictures, as a page holds them before they have a format."""

from __future__ import annotations

from dataclasses import dataclass

Map = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Picture:
    """``values``, of which those from 0 to 1 are told apart, over ``grey``, a picture from 0 to 1, if there is one.

    ``name`` is what it shows, ``text`` what else is said of it.
    """

    name: str
    text: str
    values: Map
    grey: Map = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures under one title, with a sentence. A table says the same in figures."""

    title: str
    note: str
    pictures: tuple[Picture, ...]
