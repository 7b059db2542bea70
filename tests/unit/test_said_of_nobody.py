"""What is said of events of another boot: the same of each, whoever has their numbers now."""

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.emit.render import JSON, Renderer
from auditns_connector.pipeline.text_stage import PRETTY

from .world import HEX, MS, REAL, World


def test_events_of_another_boot_are_of_no_process_of_this_one() -> None:
    world = World()
    for pid in (100, 101, 102):
        world.proc(pid, 1, 0, start=0, cg=f"/docker/{HEX}" if pid == 100 else "/")
    correlator = Correlator(world.model)
    correlator.keep_states = True
    day_before = REAL // MS - 86_400_000
    text = "".join(
        f"type=SYSCALL msg=audit({ms // 1000}.{ms % 1000:03d}:{ms - day_before + 1}): arch=c000003e syscall=2 "
        f'success=yes exit=3 ppid=1 pid={99 + ms % 5} comm="x"\n'
        for ms in range(day_before, day_before + 40)
    )
    source = TextStream(whole=True)
    source.push(text.encode())
    points = source.flush()
    assert points.n == 40
    correlator.answer(points, 6000 * MS)
    renderer = Renderer(correlator)
    for name in (JSON, PRETTY):
        assert bytes(renderer.render(name, points)) == renderer.reference(name, points)
    lines = bytes(renderer.render(JSON, points)).splitlines()
    assert len(lines) == 40
    assert all(b'"contid":"?"' in line and b'"process"' not in line for line in lines)
