import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import type { Family, Ip } from "../kit/ip.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import { StunRound } from "../nat/stunclient.js";
import type { StunReport } from "../nat/stunreport.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { MapRelay } from "../wire/map.js";
import { Alarm } from "./alarm.js";
import { urlsOf } from "./relaydial.js";

export type LocatorParts = {
  readonly clock: Clock;
  readonly random: Random;
  lookUp(name: string, family: Family): Promise<Ip>;
  /** From WireGuard's own port. */
  send(to: Endpoint, datagram: Uint8Array): void;
};

export type Located = {
  readonly report: StunReport;
  readonly latencies: readonly { readonly relay: string; readonly roundTripMs: Millis }[];
};

const LOOK_UP_TIMEOUT_MS: Millis = 3 * SECOND;
/** Addresses of relays' names are taken for true so long. */
export const NAMES_AGE_MAX_MS: Millis = 5 * MINUTE;
/** While it is talked, and NATs forget after 30 s: drawn anew each time, so that devices do not ask in step. */
export const AGAIN_MIN_MS: Millis = 20 * SECOND;
export const AGAIN_MAX_MS: Millis = 26 * SECOND;

type Host = { readonly relay: string; readonly name: string; readonly ports: readonly number[] };
type Server = { readonly relay: string; readonly endpoint: Endpoint };

/** Asks the relays' STUN servers where this device is, over both families, from WireGuard's port. */
export class Locator {
  readonly #parts: LocatorParts;
  readonly #onLocated: (located: Located) => void;
  readonly #alarm: Alarm;
  #relays: readonly MapRelay[] = [];
  #names: { readonly at: Millis; readonly servers: readonly Server[] } | undefined;
  #round: { readonly stun: StunRound; readonly servers: readonly Server[] } | undefined;
  /** Counts the rounds begun, so that one overtaken while names were looked up is dropped. */
  #rounds = 0;
  #nextAt: Millis = -Infinity;

  constructor(parts: LocatorParts, onLocated: (located: Located) => void) {
    this.#parts = parts;
    this.#onLocated = onLocated;
    this.#alarm = new Alarm(parts.clock, () => this.#tick());
  }

  setRelays(relays: readonly MapRelay[]): boolean {
    const name = (relay: MapRelay): string => `${urlsOf(relay).join()} ${portsOf(relay).join()}`;
    const changed = relays.map(name).join() !== this.#relays.map(name).join();
    this.#relays = relays;
    if (changed) this.#names = undefined;
    return changed;
  }

  /** When the next round of a talking device is due. */
  isDue(now: Millis): boolean {
    return now >= this.#nextAt;
  }

  /** Begins a round; one under way is given up. */
  async begin(local: { readonly port: number; readonly addresses: readonly Ip[] }): Promise<void> {
    const { clock, random } = this.#parts;
    const [high = 0, low = 0] = random(2);
    this.#nextAt = clock.now() + AGAIN_MIN_MS + ((AGAIN_MAX_MS - AGAIN_MIN_MS) * (high * 256 + low)) / 65_536;
    const number = ++this.#rounds;
    const servers = await this.#servers();
    if (number !== this.#rounds || servers.length === 0) return;
    const endpoints = servers.map(({ endpoint }) => endpoint);
    this.#round = { stun: new StunRound(endpoints, local, random, clock.now()), servers };
    this.#tick();
  }

  /** Names may lead elsewhere in another network. */
  forget(): void {
    this.#names = undefined;
    this.#round = undefined;
  }

  receive(datagram: Uint8Array, from: Endpoint): void {
    if (this.#round?.stun.receive(datagram, from, this.#parts.clock.now()) === true) this.#tick();
  }

  stop(): void {
    this.#rounds += 1;
    this.#round = undefined;
    this.#alarm.stop();
  }

  #tick(): void {
    const round = this.#round;
    if (round === undefined) return;
    for (const { to, datagram } of round.stun.tick(this.#parts.clock.now())) this.#parts.send(to, datagram);
    const { report } = round.stun;
    if (report === undefined) {
      this.#alarm.by(round.stun.deadline);
      return;
    }
    this.#round = undefined;
    this.#onLocated({
      report,
      latencies: report.samples.flatMap(({ server, roundTripMs }) => {
        const from = round.servers.find(({ endpoint }) => formatEndpoint(endpoint) === formatEndpoint(server));
        return from === undefined || roundTripMs === undefined ? [] : [{ relay: from.relay, roundTripMs }];
      }),
    });
  }

  async #servers(): Promise<readonly Server[]> {
    const now = this.#parts.clock.now();
    if (this.#names !== undefined && now - this.#names.at < NAMES_AGE_MAX_MS) return this.#names.servers;
    const hosts = this.#relays.flatMap((relay) => (relay.stunPort === 0 ? [] : hostsOf(relay)));
    const found = await Promise.all(
      hosts.flatMap((host) => ([4, 6] as const).map(async (family) => this.#hostAt(host, family))),
    );
    const there = found.filter((host) => host !== undefined);
    // Every host once before any host's other port: a round has room for STUN_SERVERS_MAX.
    const each = [0, 1].flatMap((nth) =>
      there.flatMap(({ relay, address, ports }) => {
        const port = ports[nth];
        return port === undefined ? [] : [{ relay, endpoint: { address, port } }];
      }),
    );
    // Two names may lead to one server: asked twice it would look like two that agree.
    const texts = each.map(({ endpoint }) => formatEndpoint(endpoint));
    const servers = each.filter((_, i) => texts.indexOf(texts[i] ?? "") === i);
    // What could not be looked up is looked up again at the next round.
    if (servers.length > 0) this.#names = { at: now, servers };
    return servers;
  }

  async #hostAt({ relay, name, ports }: Host, family: Family): Promise<(Host & { address: Ip }) | undefined> {
    const { clock, lookUp } = this.#parts;
    const settled = new AbortController();
    const late = clock.sleep(LOOK_UP_TIMEOUT_MS, settled.signal).catch(() => undefined);
    const address = await Promise.race([lookUp(name, family).catch(() => undefined), late]);
    settled.abort();
    return address === undefined ? undefined : { relay, name, ports, address };
  }
}

/** The hosts of a relay: several where a home's own devices reach it past their router. */
function hostsOf(relay: MapRelay): Host[] {
  const names = urlsOf(relay).map((url) => new URL(url).hostname.replace(/^\[(.*)\]$/, "$1"));
  return [...new Set(names)].map((name) => ({ relay: relay.id, name, ports: portsOf(relay) }));
}

const portsOf = ({ stunPort, otherStunPort }: MapRelay): number[] =>
  otherStunPort === undefined ? [stunPort] : [stunPort, otherStunPort];
