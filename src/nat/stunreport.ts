import type { Endpoint } from "../kit/endpoint.js";
import { familyOf, type Ip, isPrivate } from "../kit/ip.js";

/**
 * What a round of STUN says about the way out: the mapped endpoints, and from their comparison the NAT's mapping
 * behaviour (RFC 5780 §4.3, RFC 4787 §4.1), whether UDP is blocked, and the next ports of a NAT that counts.
 */
export type Mapping = "none" | "endpoint-independent" | "address-dependent" | "address-and-port-dependent" | "unknown";

export type StunSample = {
  readonly server: Endpoint;
  /** Undefined when nothing came back. */
  readonly mapped: Endpoint | undefined;
  readonly roundTripMs: number | undefined;
};

export type StunReport = {
  /** In the order in which the servers were asked. */
  readonly samples: readonly StunSample[];
  /** Where this device seems to be, best first; the same seen twice stands once. */
  readonly mapped: readonly Endpoint[];
  readonly mapping: Mapping;
  /** How many answers were compared, and of how many addresses of servers. */
  readonly compared: { readonly answers: number; readonly addresses: number };
  /** Only servers in this device's own private network were compared: what its router does they do not see. */
  readonly inside: boolean;
  /** Servers were asked, none answered. */
  readonly blocked: boolean;
  /** The mapped port is the local one (RFC 4787 §4.2.1). */
  readonly portKept: boolean;
  /** Mapped port minus local port, of the first answer; undefined without one. */
  readonly portDelta: number | undefined;
  /** How far apart a counting NAT sets its ports; 0 when they follow no pattern. */
  readonly step: number;
  /** The endpoints a counting NAT will probably give to the next destinations. */
  readonly predicted: readonly Endpoint[];
};

/** A counting NAT steps by 1 or 2, by more where others use it at the same moment. */
const STEP_MAX = 8;
/** Ports foretold: one each for the destinations that will be pinged first. */
const PREDICTED_MAX = 6;

/** `locals`: the addresses of this device's own interfaces; `localPort`: of the socket that asked. */
export function judge(samples: readonly StunSample[], localPort: number, locals: readonly Ip[]): StunReport {
  const all = samples.flatMap((sample) => (sample.mapped === undefined ? [] : [{ ...sample, mapped: sample.mapped }]));
  const answered = all.filter((one) => !isInside(one) || all.every((other) => isInside(other) || !isAlike(one, other)));
  const texts = new Map(answered.map(({ mapped }) => [`${mapped.address} ${mapped.port}`, mapped]));
  const first = answered[0]?.mapped;
  const fours = answered.filter(({ mapped }) => familyOf(mapped.address) === 4);
  // A network without IPv4 is judged by its IPv6: there a firewall stands in the NAT's place.
  const compared = fours.length > 0 ? fours : answered;
  const mapping = mappingOf(compared, locals);
  const isHard = mapping === "address-dependent" || mapping === "address-and-port-dependent";
  const step = isHard ? stepOf(compared.map(({ mapped }) => mapped)) : 0;
  const last = compared.at(-1)?.mapped;
  return {
    samples,
    mapped: [...texts.values()],
    mapping,
    compared: { answers: compared.length, addresses: new Set(compared.map(({ server }) => server.address)).size },
    inside: compared.length > 0 && compared.every(isInside),
    blocked: samples.length > 0 && answered.length === 0,
    portKept: compared.length > 0 && compared.every(({ mapped }) => mapped.port === localPort),
    portDelta: first === undefined ? undefined : first.port - localPort,
    step,
    predicted: step === 0 || last === undefined ? [] : foretell(last, step),
  };
}

type Answered = { readonly server: Endpoint; readonly mapped: Endpoint };

/** Servers inside the same private network see the device before its NAT, and prove nothing about it. */
const isInside = ({ server, mapped }: Answered): boolean => isPrivate(server.address) && isPrivate(mapped.address);

const isAlike = (left: Answered, right: Answered): boolean =>
  familyOf(left.mapped.address) === familyOf(right.mapped.address);

function mappingOf(answers: readonly Answered[], locals: readonly Ip[]): Mapping {
  const [first, ...others] = answers;
  if (first === undefined) return "unknown";
  const inside = answers.every(isInside);
  if (!inside && answers.every(({ mapped }) => locals.includes(mapped.address))) return "none";
  if (others.length === 0) return "unknown";
  const differs = (left: Answered, right: Answered) =>
    left.mapped.port !== right.mapped.port || left.mapped.address !== right.mapped.address;
  if (!others.some((other) => differs(first, other))) return inside ? "unknown" : "endpoint-independent";
  // RFC 5780 §4.3, third test: the same address on another port tells the two kinds of dependence apart.
  const pairs = answers.flatMap((left, i) =>
    answers
      .slice(i + 1)
      .flatMap((right) => (left.server.address === right.server.address ? [[left, right] as const] : [])),
  );
  const sameWithinAddress = pairs.length > 0 && pairs.every(([left, right]) => !differs(left, right));
  return sameWithinAddress ? "address-dependent" : "address-and-port-dependent";
}

/** The common step of the ports, in the order they were given out; 0 when there is none. Wants three to believe it. */
function stepOf(mapped: readonly Endpoint[]): number {
  if (mapped.length < 3 || new Set(mapped.map(({ address }) => address)).size > 1) return 0;
  const steps = mapped.slice(1).map(({ port }, i) => port - (mapped[i]?.port ?? 0));
  const [step = 0] = steps;
  return step !== 0 && Math.abs(step) <= STEP_MAX && steps.every((one) => one === step) ? step : 0;
}

function foretell(last: Endpoint, step: number): Endpoint[] {
  const ports = Array.from({ length: PREDICTED_MAX }, (_, i) => last.port + step * (i + 1));
  return ports.filter((port) => port > 0 && port <= 65_535).map((port) => ({ address: last.address, port }));
}
