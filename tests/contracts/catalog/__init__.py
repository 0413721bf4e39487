"""What the catalog must do over every database, by noun; each database's test file inherits it."""

from tests.contracts.catalog.accounts import AccountsContract
from tests.contracts.catalog.blobs import BlobsContract
from tests.contracts.catalog.clients import ClientsContract
from tests.contracts.catalog.database import DatabaseContract
from tests.contracts.catalog.deletions import DeletionsContract
from tests.contracts.catalog.derivations import DerivationsContract
from tests.contracts.catalog.figures import FiguresContract
from tests.contracts.catalog.growth import GrowthContract
from tests.contracts.catalog.history import HistoryContract
from tests.contracts.catalog.manifests import ManifestsContract
from tests.contracts.catalog.names import NamesContract
from tests.contracts.catalog.notes import NotesContract
from tests.contracts.catalog.policies import PoliciesContract
from tests.contracts.catalog.quotas import QuotasContract
from tests.contracts.catalog.rebuilding import RebuildingContract
from tests.contracts.catalog.referrers import ReferrersContract
from tests.contracts.catalog.repositories import RepositoriesContract
from tests.contracts.catalog.retention import RetentionContract
from tests.contracts.catalog.signing_keys import SigningKeysContract
from tests.contracts.catalog.tags import TagsContract
from tests.contracts.catalog.tasks import TasksContract
from tests.contracts.catalog.transcoded import TranscodedContract
from tests.contracts.catalog.undelete import UndeleteContract
from tests.contracts.catalog.uploads import UploadsContract
from tests.contracts.catalog.upstreams import UpstreamsContract
from tests.contracts.catalog.v1_images import V1ImagesContract
from tests.contracts.catalog.views import ViewsContract
from tests.contracts.catalog.webhooks import WebhooksContract


class CatalogContract(
    DatabaseContract,
    RepositoriesContract,
    NamesContract,
    TagsContract,
    HistoryContract,
    BlobsContract,
    ManifestsContract,
    ReferrersContract,
    UploadsContract,
    V1ImagesContract,
    ViewsContract,
    WebhooksContract,
    TranscodedContract,
    UpstreamsContract,
    DerivationsContract,
    SigningKeysContract,
    ClientsContract,
    AccountsContract,
    PoliciesContract,
    QuotasContract,
    DeletionsContract,
    NotesContract,
    RetentionContract,
    TasksContract,
    RebuildingContract,
    FiguresContract,
    GrowthContract,
    UndeleteContract,
):
    """Everything that Transaction promises; a database's test class may override the fixture ``catalog``."""
