import type { Log } from "../sys/log.js";
import type { Actor } from "./actor.js";
import type { Device } from "./device.js";
import type { Registry } from "./registry.js";
import type { Relays, RelaysTold } from "./relays.js";
import type { Switchboard, Told } from "./switchboard.js";

export type ExpulsionParts = {
  readonly registry: Pick<Registry, "revoke">;
  readonly switchboard: Pick<Switchboard, "expel">;
  readonly relays: Pick<Relays, "revoke">;
  readonly log?: Log;
};
export type Expelled = { readonly device: Device; readonly told: Told & { readonly relays?: RelaysTold } };

/** Shuts a device out for good, by id or name: its connected peers and the relays have been told when this is fulfilled. */
export async function expel(parts: ExpulsionParts, idOrName: string, by: Actor): Promise<Expelled> {
  const { registry, switchboard, relays, log } = parts;
  const device = await registry.revoke(idOrName, by);
  const [told, relaysTold] = await Promise.all([
    switchboard.expel(device.id),
    // No relay has ever let an app in.
    device.app === undefined ? relays.revoke(device.machineKey) : undefined,
  ]);
  const all = relaysTold === undefined ? told : { ...told, relays: relaysTold };
  log?.info("device revoked", { device: device.id, name: device.name, ...all });
  return { device, told: all };
}
