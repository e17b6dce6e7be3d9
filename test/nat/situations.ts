import type { Ip } from "../../src/kit/ip.js";
import { Host, Internet, Network, Router, type RouterTraits } from "./internet.js";
import { LabAgent, LabRelay, stunServer } from "./labagent.js";

/** The situations people are in, each as networks and routers around one host, and two of them as a laboratory. */

export const SITUATIONS = [
  "open",
  "endpoint-independent",
  "ordinary",
  "symmetric",
  "double NAT",
  "UDP blocked",
  "IPv6 only",
  "IPv4 only",
] as const;
export type Situation = (typeof SITUATIONS)[number] | "sequential";

export type Place = {
  readonly host: Host;
  readonly router: Router | undefined;
};

const TRAITS: Partial<Record<Situation, Partial<RouterTraits>>> = {
  "endpoint-independent": { filtering: "endpoint-independent" },
  ordinary: {},
  symmetric: { mapping: "address-and-port-dependent", ports: "random" },
  sequential: { mapping: "address-and-port-dependent", ports: "sequential" },
  "double NAT": {},
  "UDP blocked": { blocksUdp: true },
  "IPv6 only": {},
  "IPv4 only": {},
};

/** Where STUN is answered: by a network's only relay, on one port or two, or by two relays. */
export type Stun = "one port" | "two ports" | "two relays";

export class Lab {
  readonly internet: Internet;
  readonly core: Network;
  readonly relay: LabRelay;
  readonly left: LabAgent;
  readonly right: LabAgent;
  readonly places: { readonly left: Place; readonly right: Place };

  constructor(left: Situation, right: Situation, seed: number, loss = 0, stun: Stun = "two relays") {
    this.internet = new Internet(seed);
    this.core = new Network(this.internet, { delayMs: 15, jitterMs: 5, loss });
    this.relay = new LabRelay(this.internet);
    const first = new Host(this.core, ["192.0.2.1", "2001:db8:0:1::1"] as Ip[]);
    const second = new Host(this.core, ["192.0.2.2", "2001:db8:0:2::1"] as Ip[]);
    const servers = [
      ...stunServer(first, 3_478),
      ...(stun === "one port" ? [] : stunServer(first, 3_479)),
      ...(stun === "two relays" ? stunServer(second, 3_478) : []),
    ];
    this.places = { left: this.place(left, 1), right: this.place(right, 2) };
    this.left = new LabAgent("left", this.places.left.host, this.internet, this.relay, servers);
    this.right = new LabAgent("right", this.places.right.host, this.internet, this.relay, servers);
  }

  /** Both join at once, and both talk. */
  start(): this {
    this.left.start(this.right);
    this.right.start(this.left);
    this.left.talk(true);
    this.right.talk(true);
    return this;
  }

  run(duration: number): this {
    this.internet.runTo(this.internet.now + duration);
    return this;
  }

  /** A new place in this Internet; `number` makes its addresses its own. */
  place(situation: Situation, number: number): Place {
    const v4 = `203.0.113.${number}` as Ip;
    const v6 = `2001:db8:${number}::2` as Ip;
    if (situation === "open") return { host: new Host(this.core, [v4, v6]), router: undefined };
    const traits = TRAITS[situation];
    const home = new Network(this.internet);
    let outside = this.core;
    let address = v4;
    if (situation === "double NAT") {
      // RFC 6888: a carrier's NAT maps independently of the endpoint.
      outside = new Network(this.internet);
      new Router(outside, this.core, v4, { filtering: "address-dependent", ports: "random" });
      address = "100.64.7.7" as Ip;
    }
    const router = new Router(home, outside, address, traits);
    const inner = `192.168.${number}.20` as Ip;
    const hasSix = situation === "ordinary" || situation === "IPv6 only";
    if (hasSix) router.announce(v6);
    const addresses = situation === "IPv6 only" ? [v6] : hasSix ? [inner, v6] : [inner];
    return { host: new Host(home, addresses), router };
  }
}
