import type { Endpoint } from "../../kit/endpoint.js";
import type { Ip } from "../../kit/ip.js";
import type { Millis } from "../../kit/time.js";
import {
  askAddress,
  askDeletion,
  askMapping,
  type Control,
  controlOf,
  locationOf,
  readSoap,
  type SoapAnswer,
  SSDP_GROUP,
  SSDP_PORT,
  searches,
  wordsOf,
} from "./igd.js";
import {
  HTTP_TIMEOUT_MS,
  type HttpAnswer,
  type HttpRequest,
  LEASE_SECONDS,
  type PortService,
  REQUEST_TRIES_MS,
  renewalOf,
  type ServiceEffect,
  type ServiceState,
} from "./service.js";

/** A mapping asked of the router by UPnP: found by SSDP, asked for by SOAP, asked for again at half its lease. */

/** 718 says that a port is taken; so many others are tried. */
export const PORTS_TRIED_MAX = 4;
/** A permanent mapping (725) does not end, but a router forgets it when it restarts. */
const PERMANENT_CHECK_MS: Millis = 30 * 60_000;
const [CONFLICT, PERMANENT_ONLY] = [718, 725];

type Step = "describe" | "address" | "map" | "release";

export class UpnpService implements PortService {
  readonly name = "upnp";
  state: ServiceState = { kind: "absent" };
  readonly #gateway: Ip;
  readonly #client: Ip;
  readonly #internalPort: number;
  readonly #random: (length: number) => Uint8Array;
  #search: { tries: number; dueAt: Millis } | undefined;
  #asked: { readonly id: number; readonly step: Step; readonly dueAt: Millis } | undefined;
  #ids = 0;
  #location = "";
  #control: Control | undefined;
  #address: Ip | undefined;
  #externalPort: number;
  #leaseSeconds = LEASE_SECONDS;
  #portsTried = 0;

  /** `client`: this device's address on the gateway's network. */
  constructor(gateway: Ip, client: Ip, internalPort: number, random: (length: number) => Uint8Array) {
    this.#gateway = gateway;
    this.#client = client;
    this.#internalPort = internalPort;
    this.#externalPort = internalPort;
    this.#random = random;
  }

  get deadline(): Millis | undefined {
    const held = this.state.kind === "held" && this.#asked === undefined ? this.state.renewAt : Infinity;
    const soonest = Math.min(this.#search?.dueAt ?? Infinity, this.#asked?.dueAt ?? Infinity, held);
    return soonest === Infinity ? undefined : soonest;
  }

  look(now: Millis): ServiceEffect[] {
    this.state = { kind: "absent" };
    this.#control = undefined;
    this.#asked = undefined;
    this.#search = { tries: 0, dueAt: now };
    return this.tick(now);
  }

  map(now: Millis): ServiceEffect[] {
    if (this.#control === undefined) return this.look(now);
    if (this.state.kind !== "held") this.state = { kind: "asking" };
    this.#portsTried = 0;
    return this.#ask("address", askAddress(this.#control), now);
  }

  release(now: Millis): ServiceEffect[] {
    const isHeld = this.state.kind === "held";
    this.#search = undefined;
    this.#asked = undefined;
    this.state = { kind: "absent" };
    if (!isHeld || this.#control === undefined) return [];
    return this.#ask("release", askDeletion(this.#control, this.#externalPort), now);
  }

  tick(now: Millis): ServiceEffect[] {
    if (this.#asked !== undefined && now >= this.#asked.dueAt) return this.answered(this.#asked.id, undefined, now);
    if (this.state.kind === "held" && this.#asked === undefined && now >= this.state.renewAt) return this.map(now);
    if (this.#search === undefined || now < this.#search.dueAt) return [];
    const wait = REQUEST_TRIES_MS[this.#search.tries];
    if (wait === undefined) {
      this.#search = undefined;
      return [];
    }
    this.#search.tries += 1;
    this.#search.dueAt = now + wait;
    const to = { address: SSDP_GROUP, port: SSDP_PORT };
    return searches().map((datagram) => ({ kind: "datagram", to, datagram }));
  }

  receive(datagram: Uint8Array, from: Endpoint, now: Millis): ServiceEffect[] {
    if (this.#search === undefined || from.address !== this.#gateway) return [];
    const location = locationOf(datagram, this.#gateway);
    if (location === undefined) return [];
    this.#search = undefined;
    this.#location = location;
    return this.#ask("describe", { method: "GET", url: location, headers: {}, body: "" }, now);
  }

  answered(id: number, answer: HttpAnswer | undefined, now: Millis): ServiceEffect[] {
    if (this.#asked?.id !== id) return [];
    const { step } = this.#asked;
    this.#asked = undefined;
    if (step === "release") return [];
    if (step === "describe") {
      this.#control = answer?.status === 200 ? controlOf(answer.body, this.#location, this.#gateway) : undefined;
      if (this.#control !== undefined) this.state = { kind: "found" };
      return [];
    }
    const read: SoapAnswer = answer === undefined ? { kind: "refused", code: undefined } : readSoap(answer);
    return step === "address" ? this.#addressKnown(read, now) : this.#mapAnswered(read, now);
  }

  #addressKnown(read: SoapAnswer, now: Millis): ServiceEffect[] {
    if (read.kind === "refused") return this.#refused(wordsOf(read.code));
    if (read.address === undefined) return this.#refused("the router has no address of its own yet");
    this.#address = read.address;
    return this.#askMapping(now);
  }

  #askMapping(now: Millis): ServiceEffect[] {
    if (this.#control === undefined) return [];
    const [externalPort, internalPort] = [this.#externalPort, this.#internalPort];
    const mapping = { externalPort, internalPort, client: this.#client, leaseSeconds: this.#leaseSeconds };
    return this.#ask("map", askMapping(this.#control, mapping), now);
  }

  #mapAnswered(read: SoapAnswer, now: Millis): ServiceEffect[] {
    if (read.kind === "refused" && read.code === PERMANENT_ONLY && this.#leaseSeconds > 0) {
      this.#leaseSeconds = 0;
      return this.#askMapping(now);
    }
    if (read.kind === "refused" && read.code === CONFLICT && this.#portsTried < PORTS_TRIED_MAX) {
      this.#portsTried += 1;
      const [high = 0, low = 0] = this.#random(2);
      this.#externalPort = 0x4000 | (((high << 8) | low) & 0x3fff);
      return this.#askMapping(now);
    }
    if (read.kind === "refused" || this.#address === undefined)
      return this.#refused(wordsOf(read.kind === "refused" ? read.code : undefined));
    const renewIn = this.#leaseSeconds === 0 ? PERMANENT_CHECK_MS : renewalOf(this.#leaseSeconds * 1_000);
    const external = { address: this.#address, port: this.#externalPort };
    this.state = { kind: "held", external, renewAt: now + renewIn };
    return [];
  }

  #refused(words: string): ServiceEffect[] {
    this.state = { kind: "refused", words };
    return [];
  }

  #ask(step: Step, request: HttpRequest, now: Millis): ServiceEffect[] {
    this.#ids += 1;
    // The driver answers by then; should it not, silence is the answer.
    this.#asked = { id: this.#ids, step, dueAt: now + HTTP_TIMEOUT_MS + 1_000 };
    return [{ kind: "http", id: this.#ids, request }];
  }
}
