"""Why a layer differs: candidate causes, each proved by applying it to the reference layer."""
