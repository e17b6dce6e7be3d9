import { Failure } from "../kit/failure.js";
import { FILTER_TABLE, isFilter, REMOVE_FILTER, type Rule, renderFilter } from "../netconf/filter.js";
import type { Exec } from "../sys/exec.js";

/**
 * Makes the machine let in from the device what the rules do and nothing else; undefined: whatever comes. Set before
 * the device has peers: nobody gets in meanwhile.
 */
export async function setFilter(exec: Exec, device: string, rules: readonly Rule[] | undefined): Promise<void> {
  const filter = rules === undefined ? undefined : { device, rules };
  const { exitCode, stdout } = await exec.run(["nft", "list", "table", "inet", FILTER_TABLE]);
  const isThere = exitCode === 0;
  if (filter === undefined ? !isThere : isThere && isFilter(stdout, filter)) return;
  const input = filter === undefined ? REMOVE_FILTER : renderFilter(filter);
  const ran = await exec.run(["nft", "-f", "-"], { input });
  if (ran.exitCode !== 0)
    throw new Failure("filter-not-set", `nft refused the filter: ${ran.stderr.trim().slice(0, 300)}`, {
      advice: "exitnode status",
    });
}

/** How many beats may pass until a lost filter is missed. */
const LOOK_EVERY_BEATS = 30;

/** A firewall that is restarted may take our table with all others: now and then it is looked for. */
export async function keepFilter(
  exec: Exec,
  device: string,
  map: { readonly filter?: readonly Rule[] | undefined } | undefined,
  beat: number,
): Promise<void> {
  if (map !== undefined && beat % LOOK_EVERY_BEATS === 0) await setFilter(exec, device, map.filter);
}
