"""Events that are wanted as objects of JSON, one after the other."""

from collections.abc import Callable

from auditns_connector.pipeline.text_stage import JSON, Enricher
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.asked import Asked, Options
from auditns_connector.query.facts import Event, read
from auditns_connector.query.logs import Text
from auditns_connector.query.names import Names
from auditns_connector.query.search import Search, Shown


class Objects:
    """Asks one text several times; names are learned the first time."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.names = Names()
        self.failed = False
        #: as :attr:`Search.cut`, of the time for which there was most
        self.cut = 0
        #: what of the archive could not be read, each once
        self.notices: dict[str, None] = {}
        self._learned = self._search(Options(), lambda event: None).prepare(text, names=True, entries=True)

    @property
    def again(self) -> bool:
        """The text can be read again: it is no pipe."""
        return self._learned

    def _search(self, options: Options, take: Callable[[Event], None]) -> Search:
        answers = LogAnswers(self.names)
        asked = Asked(options, answers)

        def deliver(block: memoryview | bytes) -> bool:
            for line in bytes(block).splitlines():
                event = read(line)
                if "foreign" not in event:
                    take(event)
            return True

        enricher = Enricher(answers, [JSON], wanted=asked, lasting=False, says_divided=False)
        return Search(answers, asked, Shown(answers, enricher, JSON, deliver).take)

    def each(self, options: Options, take: Callable[[Event], None]) -> None:
        """Give all events that ``options`` want to ``take``."""
        search = self._search(options, take)
        search.prepare(self.text, names=False)
        search.forwards(self.text, learn=False)
        for notice in self.text.archive.notices if self.text.archive is not None else ():
            self.failed = True
            self.notices[notice] = None
        self.failed = self.failed or search.failed
        self.cut = max(self.cut, search.cut)
