"""Who people are and whose devices they use: one function a story, so that every case of R8 happens."""

from __future__ import annotations

from typing import Final

from bench.visitors import ALMOST, DAY, HOUR, LIGHT, MEDIUM, MINUTE, STRONG, Visitor


def window_shopper(v: Visitor) -> None:
    """Decide anonymously and leave; come back long after being forgotten, on the same device."""
    web = v.any_device()
    v.visit(web, v.at(0), MEDIUM)
    v.visit(web, v.at(1), STRONG)
    v.visit(web, v.at(54), STRONG)


def decides_and_leaves(v: Visitor) -> None:
    """Decide as a user, leave, be forgotten, and come back as a new life on a linked device."""
    web = v.any_device()
    v.visit(web, v.at(0), STRONG)
    v.visit(web, v.login(web, v.at(1)), STRONG, user=v.user)
    v.visit(web, v.at(52), MEDIUM)  # nobody logged in, and the link is forgotten: a fresh anonymous person
    if v.rng.random() < 0.8:
        v.visit(web, v.at(54), STRONG, user=v.user)


def logs_in_deciding(v: Visitor) -> None:
    """Decide on the sofa and log in there, having decided at work as a user; then take a new phone as well."""
    work, sofa = v.device("web"), v.any_device()
    t = v.login(work, v.at(0))  # first sight of the device: a link without an anonymous person
    v.visit(work, t, STRONG, user=v.user)
    v.visit(sofa, v.at(1), STRONG)
    v.login(sofa, v.at(2))
    phone = v.device("app")
    v.visit(phone, v.at(3), LIGHT, user=v.user)  # linked by a first event with both ids, without a person
    v.visit(phone, v.at(4), LIGHT)  # alone: follows the link
    v.visit(phone, v.at(6), LIGHT, user=v.user)


def woken_elsewhere(v: Visitor) -> None:
    """Sleep as a user, decide on a new device anonymously, and log in there: from dormant into a decision."""
    web, fresh = v.any_device(), v.any_device()
    order = v.order()
    v.visit(web, v.login(web, v.at(0)), STRONG, user=v.user)
    v.fact("purchase", order, v.at(2))
    v.fact("redeem", order, v.at(4))
    v.visit(fresh, v.at(38), STRONG)
    v.login(fresh, v.at(39))


def keeps_at_four(v: Visitor) -> None:
    """Decide anonymously; when only 4 to 5 points are left, log in: they suffice for one who was deciding."""
    web = v.any_device()
    v.visit(web, v.at(0), LIGHT)
    v.visit(web, v.at(9), ALMOST)
    t = v.at(18)
    v.act(web, "custom", t, user=v.user, name="registered")
    v.act(web, "custom", t + MINUTE, user=v.user, name="identity_verified")


def logs_in_afterwards(v: Visitor) -> None:
    """Decide anonymously and log in when the decision has passed."""
    web = v.any_device()
    v.visit(web, v.at(0), STRONG)
    v.visit(web, v.login(web, v.at(20)), LIGHT, user=v.user)


def logs_in_asleep(v: Visitor) -> None:
    """Decide anonymously and log in when even dormancy has begun."""
    web = v.any_device()
    v.visit(web, v.at(1), STRONG)
    v.visit(web, v.login(web, v.at(39)), LIGHT, user=v.user)


def decides_twice_over(v: Visitor) -> None:
    """Look around on two devices, a little on each, and decide only when they turn out to be one person's."""
    phone, web = v.device("app"), v.device("web")
    v.visit(phone, v.at(0), MEDIUM)
    v.visit(web, v.at(1), MEDIUM)
    v.visit(phone, v.at(2), LIGHT, user=v.user)
    t = v.visit(web, v.at(3), LIGHT)
    v.login(web, t)


def family_device(v: Visitor) -> None:
    """Share a device: a second user is refused, what is anonymous then is a fresh person's, the first one returns."""
    web = v.device("web")
    partner = f"u{500_000 + v.number}"
    v.visit(web, v.at(0), LIGHT)
    v.visit(web, v.login(web, v.at(1)), LIGHT, user=v.user)
    v.visit(web, v.at(2), LIGHT)  # follows the link
    v.visit(web, v.at(3), LIGHT, away=2 * DAY)  # when it arrives, the device is shared
    v.visit(web, v.login(web, v.at(4), partner), LIGHT, user=partner)
    v.visit(web, v.at(6), STRONG)  # a fresh anonymous person's
    v.visit(web, v.login(web, v.at(8)), LIGHT, user=v.user)
    v.visit(web, v.at(9), LIGHT)
    if v.rng.random() < 0.5:
        v.visit(web, v.login(web, v.at(62), partner), LIGHT, user=partner)  # all forgotten: a link anew
    else:
        v.visit(web, v.at(62), LIGHT)


def stragglers(v: Visitor) -> None:
    """Log in, then go on without a user id, some of it late; be forgotten as a link, and begin anew."""
    web, mini = v.device("web"), v.device("mini")
    v.visit(web, v.at(0), LIGHT)
    v.visit(mini, v.at(0), LIGHT, away=2 * DAY)  # offline until after the login
    v.visit(web, v.login(web, v.at(1)), LIGHT, user=v.user)
    v.login(mini, v.at(1))
    v.visit(web, v.at(3), LIGHT)
    v.visit(mini, v.at(4), MEDIUM, away=v.rng.randrange(2 * HOUR, 30 * HOUR))
    v.visit(web, v.at(6), LIGHT, user=v.user)
    v.visit(web, v.at(60), LIGHT)


def told_twice(v: Visitor) -> None:
    """Have events sent once anonymously and, from the device's queue, once more as the user after the login."""
    web = v.any_device()
    v.visit(web, v.at(0), MEDIUM)
    begin = len(v.events)
    t = v.visit(web, v.at(2), MEDIUM)
    queued = v.events[begin:]
    t = v.login(web, t + MINUTE)
    for event in queued[: len(queued) // 2]:
        v.again(event, t + v.rng.randrange(MINUTE, 6 * HOUR), user_id=v.user)
    v.visit(web, v.at(3), LIGHT, user=v.user)
    for event in queued[len(queued) // 2 :]:
        v.again(event, t + v.rng.randrange(MINUTE, 6 * HOUR), user_id=v.user)


STORIES: Final = (
    window_shopper,
    decides_and_leaves,
    logs_in_deciding,
    woken_elsewhere,
    keeps_at_four,
    logs_in_afterwards,
    logs_in_asleep,
    decides_twice_over,
    family_device,
    stragglers,
    told_twice,
)
