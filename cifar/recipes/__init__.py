"""WHAT is trained: augmentation policies, recipes and profiles, all of them data."""

from cifar.recipes.named import FIELDS, RECIPES, RecipeFile, is_file, read
from cifar.recipes.schema import (
    MAX_EPOCHS,
    MAX_THREADS,
    NETWORK_PATTERN,
    POLICIES,
    PUBLISHED,
    Policy,
    Recipe,
)
from cifar.recipes.selection import PROFILES, Profile, grid, recipe

__all__ = [
    "FIELDS",
    "MAX_EPOCHS",
    "MAX_THREADS",
    "NETWORK_PATTERN",
    "POLICIES",
    "PROFILES",
    "PUBLISHED",
    "RECIPES",
    "Policy",
    "Profile",
    "Recipe",
    "RecipeFile",
    "grid",
    "is_file",
    "read",
    "recipe",
]
