import { formatEndpoint } from "../kit/endpoint.js";
import { type Family, familyOf, isPrivate, tryIp } from "../kit/ip.js";
import { type Millis, SECOND } from "../kit/time.js";
import { describeNat } from "../nat/natkind.js";
import type { StunReport } from "../nat/stunreport.js";
import type { FetchText } from "../sys/fetchtext.js";
import type { NetcheckAnswer } from "../wire/agentsocket.js";
import type { ForwardedPort } from "./forwardedport.js";
import type { PortMapping } from "./portmapping.js";
import type { RelayStanding } from "./relays.js";
import type { Traversal } from "./traversal.js";
import { WHOAMI_TIMEOUT_MS } from "./whoami.js";

/** A round of STUN takes three seconds at most, looking up the relays' names as long again. */
const LOCATE_TIMEOUT_MS: Millis = 7 * SECOND;

/** What stands between this device and the others, found out anew. */
export async function netcheck(
  traversal: Traversal,
  fetchText: FetchText,
  whoami: readonly string[],
): Promise<NetcheckAnswer> {
  const [report, captivePortal] = await Promise.all([
    traversal.locate(LOCATE_TIMEOUT_MS),
    guessCaptivePortal(fetchText, whoami),
  ]);
  const mapped = (family: Family): string | undefined => {
    // A relay in this network sees what stands before the router, and not what the Internet sees.
    const endpoint = report?.mapped.find(({ address }) => familyOf(address) === family && !isPrivate(address));
    return endpoint === undefined ? undefined : formatEndpoint(endpoint);
  };
  return {
    ...(report === undefined || !tellsOfNat(report, traversal.relays.describe())
      ? {}
      : { udp: !report.blocked, nat: describeNat(report) }),
    ...present({ ipv4: mapped(4), ipv6: mapped(6) }),
    portmap: describePortMapping(traversal.portMapping),
    ...present({ forward: describeForward(traversal.forwarded) }),
    relays: traversal.relays.describe().map(({ name, url, home, state, reason, roundTripMs }) => ({
      ...{ name, url, home, state },
      ...present({ reason }),
      ...present({ roundTripMs }),
    })),
    ...present({ captivePortal }),
  };
}

/** That no STUN server answers tells of UDP where a relay answers over TCP; elsewhere nobody is reached at all. */
export const tellsOfNat = (
  { blocked }: Pick<StunReport, "blocked">,
  relays: readonly Pick<RelayStanding, "state">[],
): boolean => !blocked || relays.some(({ state }) => state === "connected");

function describePortMapping({ status, seen, mapped }: PortMapping): NetcheckAnswer["portmap"] {
  const by = status?.kind === "mapped" ? status.service : undefined;
  const outcome = (name: "pcp" | "natpmp" | "upnp"): "absent" | "offered" | "mapped" =>
    name === by ? "mapped" : seen.includes(name) ? "offered" : "absent";
  return {
    ...{ pcp: outcome("pcp"), natpmp: outcome("natpmp"), upnp: outcome("upnp") },
    ...(mapped === undefined ? {} : { endpoint: formatEndpoint(mapped) }),
    why: status === undefined ? [NOT_ASKED] : status.kind === "none" ? [...status.why] : [],
  };
}

const describeForward = ({ endpoint, leads }: ForwardedPort): NetcheckAnswer["forward"] =>
  endpoint === undefined ? undefined : { endpoint: formatEndpoint(endpoint), leads };

const NOT_ASKED = "not asked: no relay is connected that could prove a mapping";

/** A network that wants a login answers every request itself: with a page where whoami has an address. */
async function guessCaptivePortal(fetchText: FetchText, urls: readonly string[]): Promise<boolean | undefined> {
  const answers = await Promise.all(urls.map((url) => fetchText(url, 4, WHOAMI_TIMEOUT_MS)));
  const said = answers.filter((text) => text !== undefined);
  return said.length === 0 ? undefined : said.every((text) => tryIp(text.trim()) === undefined);
}

/** Without the entries that are undefined. */
function present<T extends Record<string, unknown>>(entries: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
