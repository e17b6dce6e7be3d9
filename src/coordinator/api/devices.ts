import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { addedApp, appRequest, type DeviceInfo, deviceInfo, deviceRequest } from "../../wire/adminapi.js";
import { describeApp, tunnelTo } from "../apps.js";
import { type Device, isMember, waitingOf } from "../device.js";
import { expel } from "../expulsion.js";
import { outlineOf, ownerOf } from "../netmap.js";
import type { Caller } from "./caller.js";
import { nextCursor, pageOf, pageQuery } from "./page.js";
import type { ApiParts } from "./parts.js";
import { Reach } from "./reach.js";
import { type Route, route } from "./route.js";

export function deviceRoutes(parts: ApiParts): Route[] {
  const { registry, membership, policies } = parts;
  const reach = new Reach(parts.people);
  const named = (caller: Caller, idOrName: string): Device => reach.device(registry, caller, idOrName);
  return [
    route({
      method: "GET",
      path: "/devices",
      summary: "All devices, revoked ones too",
      scope: "devices:read",
      query: pageQuery,
      answer: z.object({ devices: z.array(deviceInfo), ...nextCursor }),
      run({ query, caller }) {
        const theirs = [...registry.devices.values()].filter(({ userId }) => reach.has(caller, userId));
        const { page, ...next } = pageOf(theirs, query);
        return { devices: page.map((device) => describeDevice(device, parts)), ...next };
      },
    }),
    route({
      method: "POST",
      path: "/devices",
      summary:
        "Let a WireGuard app in, with one exit node as its only peer; the configuration is the caller's to write",
      scope: "devices:write",
      body: appRequest,
      answer: addedApp,
      async run({ body, caller, created }) {
        const { name, publicKey, exit: wanted, endpoint, onlyNetwork, lock } = body;
        if (body.tags.length > 0 && !policies.ownsTags(caller.userId, body.tags))
          reach.refuseConfined(caller, "a device with tags");
        if (policies.isReserved(name)) reach.refuseConfined(caller, `"${name}", a name that the policy goes by,`);
        const userId = reach.owner(caller, body.user, "a device");
        const byAdministrator = !reach.isConfined(caller);
        const { app, exit } = await membership.add(
          { name, publicKey, exit: wanted, endpoint, userId, tags: body.tags, lock, byAdministrator },
          caller,
          (app, exit) => {
            const prospect = policies.visibility.prospect(app, exit);
            if (prospect !== undefined && (onlyNetwork || prospect.routes.length > 0)) return;
            throw new Failure("policy-denies", `the policy does not let ${app.name} use ${exit.name}`, {
              advice: "exitnode policy show",
            });
          },
        );
        created();
        return { ...describeDevice(app, parts), tunnel: tunnelTo(exit, parts.facts) };
      },
    }),
    route({
      method: "POST",
      path: "/devices/:id/revoke",
      summary: "Shut a device out, by id or name; connected peers have been told when it answers",
      scope: "devices:write",
      answer: deviceInfo,
      async run({ param, caller }) {
        const { device, told } = await expel(parts, named(caller, param("id")).id, caller);
        return { ...describeDevice(device, parts), told };
      },
    }),
    route({
      method: "POST",
      path: "/devices/:id/approve",
      summary: "Let a device that waits have its peers",
      scope: "devices:write",
      answer: deviceInfo,
      async run({ param, caller }) {
        const { id } = named(caller, param("id"));
        reach.refuseConfined(caller, "approving a device");
        return describeDevice(await membership.approve(id, caller), parts);
      },
    }),
    route({
      method: "PATCH",
      path: "/devices/:id",
      summary: "Rename or tag a device, or end its key now or never",
      scope: "devices:write",
      body: deviceRequest,
      answer: deviceInfo,
      async run({ param, body, caller }) {
        const { id } = named(caller, param("id"));
        if (body.tags !== undefined || body.key === "never-expires")
          reach.refuseConfined(caller, "tagging a device, or letting its key last for ever,");
        if (body.name !== undefined && policies.isReserved(body.name))
          reach.refuseConfined(caller, `"${body.name}", a name that the policy goes by,`);
        return describeDevice(await membership.amend(id, body, caller), parts);
      },
    }),
    route({
      method: "DELETE",
      path: "/devices/:id",
      summary: "Revoke a device and forget it, which frees its name",
      scope: "devices:write",
      async run({ param, caller }) {
        const { device } = await expel(parts, named(caller, param("id")).id, caller);
        await registry.remove(device.id, caller);
        return undefined;
      },
    }),
  ];
}

export function describeDevice(
  device: Device,
  { switchboard, facts, locks, registry }: Pick<ApiParts, "switchboard" | "facts" | "locks" | "registry">,
): DeviceInfo {
  const waiting = waitingOf(device, facts.wall?.() ?? 0) ?? (locks.lacks(device) ? "lock" : undefined);
  const { user } = ownerOf(device, facts);
  return {
    ...outlineOf(device, switchboard.isOnline(device.id), facts),
    ...(user === undefined ? {} : { user }),
    ...describeApp(device, registry.devices),
    agentVersion: device.agentVersion,
    createdAtMs: device.createdAtMs,
    ...(device.lastSeenAtMs === undefined ? {} : { lastSeenAtMs: device.lastSeenAtMs }),
    ...(device.revokedAtMs === undefined ? {} : { revokedAtMs: device.revokedAtMs }),
    ...(device.userId === undefined ? {} : { userId: device.userId }),
    ...(device.lock === undefined ? {} : { lock: device.lock }),
    tags: [...device.tags],
    ephemeral: device.ephemeral,
    ...(waiting === undefined || !isMember(device) ? {} : { waiting }),
    ...(device.keyExpiresAtMs === undefined ? {} : { keyExpiresAtMs: device.keyExpiresAtMs }),
    ...(device.rotateAtMs === undefined ? {} : { rotateAtMs: device.rotateAtMs }),
  };
}
