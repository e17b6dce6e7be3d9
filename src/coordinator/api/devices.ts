import * as z from "zod";
import { type DeviceInfo, deviceInfo } from "../../wire/adminapi.js";
import type { Actor } from "../actor.js";
import type { Device } from "../device.js";
import { outlineOf } from "../netmap.js";
import type { RelaysTold } from "../relays.js";
import type { Told } from "../switchboard.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function deviceRoutes(parts: ApiParts): Route[] {
  const { registry, switchboard, relays, log } = parts;
  const revoke = async (
    idOrName: string,
    by: Actor,
  ): Promise<{ device: Device; told: Told & { relays: RelaysTold } }> => {
    const device = await registry.revoke(idOrName, by);
    const [told, relaysTold] = await Promise.all([switchboard.expel(device.id), relays.revoke(device.machineKey)]);
    log?.info("device revoked", { device: device.id, name: device.name, ...told, relays: relaysTold });
    return { device, told: { ...told, relays: relaysTold } };
  };
  return [
    route({
      method: "GET",
      path: "/devices",
      summary: "All devices, revoked ones too",
      scope: "devices:read",
      answer: z.object({ devices: z.array(deviceInfo) }),
      run: () => ({ devices: [...registry.devices.values()].map((device) => describeDevice(device, parts)) }),
    }),
    route({
      method: "POST",
      path: "/devices/:id/revoke",
      summary: "Shut a device out, by id or name; connected peers have been told when it answers",
      scope: "devices:write",
      answer: deviceInfo,
      async run({ param, caller }) {
        const { device, told } = await revoke(param("id"), caller);
        return { ...describeDevice(device, parts), told };
      },
    }),
    route({
      method: "DELETE",
      path: "/devices/:id",
      summary: "Revoke a device and forget it, which frees its name",
      scope: "devices:write",
      async run({ param, caller }) {
        const { device } = await revoke(param("id"), caller);
        await registry.remove(device.id, caller);
        return undefined;
      },
    }),
  ];
}

export function describeDevice(device: Device, { switchboard, facts }: ApiParts): DeviceInfo {
  return {
    ...outlineOf(device, switchboard.isOnline(device.id), facts),
    agentVersion: device.agentVersion,
    createdAtMs: device.createdAtMs,
    ...(device.lastSeenAtMs === undefined ? {} : { lastSeenAtMs: device.lastSeenAtMs }),
    ...(device.revokedAtMs === undefined ? {} : { revokedAtMs: device.revokedAtMs }),
  };
}
