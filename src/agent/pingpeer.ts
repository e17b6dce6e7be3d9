import { Failure } from "../kit/failure.js";
import type { PingAnswer } from "../wire/agentsocket.js";
import type { MapPeer } from "../wire/map.js";
import { describeWay } from "./statusreport.js";
import type { Traversal } from "./traversal.js";

/** One round trip to the peer of that name. */
export async function ping(traversal: Traversal, peers: readonly MapPeer[], name: string): Promise<PingAnswer> {
  const peer = peers.find((one) => one.name === name);
  if (peer === undefined) {
    const names = peers.map((one) => one.name).join(", ");
    throw new Failure("peer-unknown", `there is no peer "${name}"; known: ${names || "none"}`, {
      advice: "exitnode status",
    });
  }
  if (traversal.paths.of(peer.publicKey) === undefined)
    throw new Failure(
      "peer-without-probes",
      peer.app === true
        ? `${name} is a WireGuard app, which answers no probes`
        : `${name} answers no probes: its agent knows none, or this data plane has none`,
      {
        advice: `ping ${peer.addresses[0] ?? name}`,
      },
    );
  const roundTripMs = await traversal.paths.ping(peer.publicKey);
  const { path, endpoint, relay, why } = describeWay(peer, undefined, traversal);
  return {
    ...{ peer: name, path },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(relay === undefined ? {} : { relay }),
    ...(why === undefined ? {} : { why }),
    ...(roundTripMs === undefined ? {} : { roundTripMs }),
  };
}
