import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { Journal } from "../provision/journal.js";
import { findContainer } from "../provision/observe.js";
import type { PveHost } from "../pve/guests.js";
import type { Call } from "./command.js";
import { journalFolder } from "./createparts.js";
import { type Answer, askHosts, failuresOf, forHost, valuesOf } from "./everyhost.js";
import { hostNames, openHost } from "./hosts.js";

/** Which of several hosts a command is for that names none: the one that has the exit node, or the container. */

/** Somebody waits for the command itself. */
const LOOK_WITHIN_MS: Millis = 5 * SECOND;

/** What a host has of it; the same id on two entries of the config is one Proxmox host, or one cluster. */
type There = { readonly id: string; readonly vmid: number };

/** The same command with the host of that exit node; `absent` is what to type when there is none of that name. */
export function onItsHost(call: Call, name: string, absent: (host: string) => string[] = () => []): Promise<Call> {
  return onHostOf(call, `exit node "${name}"`, {
    code: "exit-node-unknown",
    look: async (pve) => {
      const found = await findContainer(pve, await pve.guests(), name);
      return found === undefined ? undefined : { id: found.identity.id, vmid: found.vmid };
    },
    begunOn: async (host) => !(await Journal.open(call.parts.files, journalFolder(call.parts), host, name)).isEmpty,
    absent: (host) => ["exitnode list", ...absent(host)],
  });
}

/** The same command with the host of that container, whosever it is. */
export function onContainersHost(call: Call, vmid: number): Promise<Call> {
  return onHostOf(call, `container ${vmid}`, {
    code: "container-unknown",
    look: async (pve) => {
      const found = (await pve.guests()).find((guest) => guest.vmid === vmid);
      if (found === undefined) return undefined;
      // Its network card's address is nobody else's; many a PVE node is called "pve".
      const config = found.type === "lxc" ? await pve.config(found.node, vmid) : undefined;
      return { id: config?.options.net0 ?? `${found.node} ${found.name}`, vmid };
    },
    begunOn: async () => false,
    absent: () => ["pct list    (on the Proxmox host)"],
  });
}

async function onHostOf(
  call: Call,
  what: string,
  search: {
    readonly code: string;
    readonly look: (pve: PveHost) => Promise<There | undefined>;
    /** A run that was killed left something of it there. */
    readonly begunOn: (host: string) => Promise<boolean>;
    readonly absent: (host: string) => readonly string[];
  },
): Promise<Call> {
  if (typeof call.options.host === "string") return call;
  const names = await hostNames(call.parts, what);
  const [first = "", ...others] = names;
  if (others.length === 0) return forHost(call, first);
  const answers = await askHosts(
    call,
    names,
    async (within, host) => {
      const { pve } = await openHost(within.parts, host, { signal: within.signal });
      try {
        return await search.look(pve);
      } finally {
        pve.close();
      }
    },
    LOOK_WITHIN_MS,
  );
  const found = valuesOf(answers).flatMap(({ host, value }) => (value === undefined ? [] : [{ host, ...value }]));
  const unasked = failuresOf(answers);
  const twice = unasked.find(({ error }) => error.code === "name-ambiguous");
  if (twice !== undefined)
    throw new Failure(twice.error.code, `on ${twice.host}, ${twice.error.message}`, { advice: twice.error.advice });
  const [one] = found;
  if (one === undefined) {
    const begun = [];
    for (const host of names) if (await search.begunOn(host)) begun.push(host);
    if (begun[0] !== undefined && begun.length === 1) return forHost(call, begun[0]);
    throw nowhere(what, answers, search.code, search.absent(first));
  }
  if (found.some(({ id }) => id !== one.id)) {
    const places = found.map(({ host, vmid }) => `on ${host} (container ${vmid})`).join(" and ");
    const advice = `add ${found.map(({ host }) => `--host ${host}`).join(", or ")}`;
    throw new Failure("name-ambiguous", `${what} is ${places}`, { advice });
  }
  for (const { host, error } of unasked) call.parts.say(`${host} was not asked: ${error.message}`);
  return forHost(call, one.host);
}

/** Perhaps it is on the one that did not answer. */
function nowhere(what: string, answers: readonly Answer<unknown>[], code: string, absent: readonly string[]): Failure {
  const asked = valuesOf(answers).map(({ host }) => host);
  const unasked = failuresOf(answers);
  const silent = unasked.map(({ host, error }) => `; ${host} was not asked: ${error.message}`).join("");
  const on = asked.length === 0 ? "" : `there is no ${what} on ${asked.join(" or ")}`;
  const advice = unasked.length === 0 ? absent : unasked.map(({ host }) => `exitnode host check ${host}`);
  return new Failure(code, `${on}${silent}`.replace(/^; /, ""), { advice: advice.join("\n") });
}
