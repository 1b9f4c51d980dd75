"""A data card of an embedded set in Croissant 1.0, the JSON-LD that data set searches and loaders read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
"""The context that the format's specification gives."""
LICENSES = ("https://creativecommons.org/licenses/by/4.0/", "https://creativecommons.org/licenses/by-sa/4.0/")
"""Of Twemoji's and of OpenMoji's pictures, which the images are drawn from."""
LISTS = {
    "images": {"id": "sc:Integer", "file_name": "sc:Text", "width": "sc:Integer", "height": "sc:Integer"},
    "annotations": {"image_id": "sc:Integer", "category_id": "sc:Integer", "bbox": "cr:BoundingBox"},
    "categories": {"id": "sc:Integer", "name": "sc:Text", "instance_count": "sc:Integer"},
}
"""Fields of each list of an annotation file, with their types; boxes are x, y, width, height in pixels."""


def card(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a drawn set: files with checksums, licences, and where images and boxes are in the annotations.

    Args:
        name: of the set.
        record: its ``record.json``; ``sha256`` has the checksum of each annotation file.
    """
    splits = ("train", "val")
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": record["description"],
        "version": f"{record['version']}.0.0",
        "license": list(LICENSES),
        "creditText": record["attribution"],
        "isLiveDataset": False,
        "distribution": [part for split in splits for part in _files(split, record["sha256"])],
        "recordSet": [_record_set(split, name, fields) for split in splits for name, fields in LISTS.items()],
    }


def _files(split: str, checksums: Mapping[str, str]) -> list[dict[str, Any]]:
    """Describe images and annotations; the latter once for each list, as a reader takes one list from a file."""
    annotations = f"annotations/{split}.json"
    lists = [
        {
            "@type": "cr:FileObject",
            "@id": f"{split}-{name}.json",
            "name": f"{split}-{name}.json",
            "description": f"the {name} in LVIS format",
            "contentUrl": annotations,
            "encodingFormat": "application/json",
            "sha256": checksums[annotations],
        }
        for name in LISTS
    ]
    images = {
        "@type": "cr:FileSet",
        "@id": f"{split}-pictures",
        "name": f"{split}-pictures",
        "encodingFormat": "image/jpeg",
        "includes": f"{split}/*.jpg",
    }
    return [*lists, images]


def _record_set(split: str, name: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Describe a list of the annotation file as records."""
    own = f"{split}_{name}"
    return {
        "@type": "cr:RecordSet",
        "@id": own,
        "name": own,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{own}/{field}",
                "name": f"{own}/{field}",
                "dataType": kind,
                "source": {
                    "fileObject": {"@id": f"{split}-{name}.json"},
                    "extract": {"jsonPath": f"$.{name}[*].{field}"},
                },
            }
            for field, kind in fields.items()
        ],
    }
