"""Who reaches whom by the rendered NetworkPolicies, as the API defines them.

Without a policy that selects a pod for a direction, all is allowed there; otherwise what any of them allows. An empty
`from` or `to` means everybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.chart import Object


@dataclass(frozen=True)
class Place:
    """A pod by namespace and labels, or an address outside the cluster."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""


def reaches(policies: list[Object], source: Place, target: Place, port: int) -> bool:
    return _allowed(policies, "Egress", source, target, port) and _allowed(policies, "Ingress", target, source, port)


def _allowed(policies: list[Object], direction: str, subject: Place, peer: Place, port: int) -> bool:
    mine = [p for p in policies if direction in p["spec"]["policyTypes"] and _selects(p, subject)]
    return not mine or any(_rule_allows(p, rule, direction, peer, port) for p in mine for rule in _rules(p, direction))


def _selects(policy: Object, place: Place) -> bool:
    inside = not place.address and place.namespace == policy["metadata"].get("namespace", "health")
    return inside and matches(policy["spec"]["podSelector"], place.labels)


def _rules(policy: Object, direction: str) -> Iterator[dict[str, Any]]:
    yield from policy["spec"].get(direction.lower(), [])


def _rule_allows(policy: Object, rule: dict[str, Any], direction: str, peer: Place, port: int) -> bool:
    peers = rule.get("from" if direction == "Ingress" else "to")
    ports = rule.get("ports")
    right_port = not ports or any(entry["port"] == port for entry in ports)
    return right_port and (not peers or any(_is_peer(policy, entry, peer) for entry in peers))


def _is_peer(policy: Object, entry: dict[str, Any], place: Place) -> bool:
    if block := entry.get("ipBlock"):
        return bool(place.address) and _in_block(block, place.address)
    if place.address:
        return False
    if "namespaceSelector" in entry:
        right_namespace = matches(entry["namespaceSelector"], {"kubernetes.io/metadata.name": place.namespace})
    else:
        right_namespace = place.namespace == policy["metadata"].get("namespace", "health")
    return right_namespace and matches(entry.get("podSelector", {}), place.labels)


def _in_block(block: dict[str, Any], address: str) -> bool:
    at = ipaddress.ip_address(address)
    return at in ipaddress.ip_network(block["cidr"]) and not any(
        at in ipaddress.ip_network(left_out) for left_out in block.get("except", [])
    )


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert "matchExpressions" not in selector, "not read here"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
