"""The areas, by the name that the command takes."""

from tests.campaigns.area import Area
from tests.campaigns.areas.command_lines import CommandLines
from tests.campaigns.areas.data_sets import DataSets
from tests.campaigns.areas.disks import Disks
from tests.campaigns.areas.labels import Labels
from tests.campaigns.areas.published import Published
from tests.campaigns.areas.remote import Remote
from tests.campaigns.areas.runs import Runs
from tests.campaigns.areas.servers import Servers

AREAS: dict[str, type[Area]] = {
    "data_sets": DataSets,
    "runs": Runs,
    "command_lines": CommandLines,
    "labels": Labels,
    "published": Published,
    "servers": Servers,
    "disks": Disks,
    "remote": Remote,
}
