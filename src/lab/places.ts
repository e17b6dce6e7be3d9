/** Where the lab keeps its things, and how a command is run inside one of its places. */
import { Failure } from "../kit/failure.js";
import { shellWord } from "../kit/shell.js";
import { namespaceOf, type Place, type Topology } from "./internet.js";

/** Gone after `lab down`. */
export const RUN_DIR = "/run/exitnode-lab";
/** Kept over `lab down`, for a quick next time; gone after `lab down --purge`. */
export const STATE_DIR = "/var/lib/exitnode-lab";
export const PLACES_DIR = `${STATE_DIR}/places`;
export const STORAGE_DIR = `${STATE_DIR}/storage`;
export const PVE_STATE_DIR = `${STATE_DIR}/pve`;
export const NETNS_DIR = "/run/netns";
export const NETNS_ETC = "/etc/netns";

/** Debian keeps `ip`, `nft` and `dnsmasq` where a plain user's PATH, or `su` without a dash, does not look. */
export const TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export function findPlace(topology: Topology, name: string): Place {
  const place = topology.places.find((one) => one.name === name || namespaceOf(one.name) === name);
  if (place !== undefined) return place;
  const names = topology.places.map((one) => one.name).join(", ");
  throw new Failure("place-unknown", `the lab has no place "${name}"; it has ${names}`, {
    advice: "exitnode lab status",
  });
}

/** argv and environment of a command in a place; without a command, an interactive shell. */
export function insidePlace(
  place: Place,
  command: readonly string[],
  wrapperDir: string,
  env: Readonly<Record<string, string | undefined>>,
): { argv: readonly string[]; env: Readonly<Record<string, string>> } {
  const own = `${PLACES_DIR}/${place.name}`;
  const argv = command.length === 0 ? [env.SHELL ?? "/bin/sh"] : command;
  return {
    argv: ["ip", "netns", "exec", namespaceOf(place.name), ...argv],
    env: {
      PATH: `${wrapperDir}:${env.PATH === undefined ? "" : `${env.PATH}:`}${TOOL_PATH}`,
      EXITNODE_LAB_PLACE: place.name,
      EXITNODE_ETC: `${own}/etc`,
      EXITNODE_VAR: `${own}/var`,
      EXITNODE_RUN: `${own}/run`,
      // The lab's Internet has one service of this kind, and none of the real one's.
      EXITNODE_WHOAMI: "http://whoami.lab/",
    },
  };
}

/** A program `exitnode` that is this very one, whatever else is installed under that name. */
export const renderWrapper = (program: readonly string[]): string =>
  `#!/bin/sh\nexec ${program.map(shellWord).join(" ")} "$@"\n`;
