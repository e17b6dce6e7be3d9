import { deviceLockRequest, lockEnd, signatureRequest } from "../../wire/adminapi.js";
import { mapLock } from "../../wire/lock.js";
import type { Caller } from "./caller.js";
import type { ApiParts } from "./parts.js";
import { Reach } from "./reach.js";
import { type Route, route } from "./route.js";

export function lockRoutes({ locks, people, log }: ApiParts): Route[] {
  const reach = new Reach(people);
  const mayDecide = (caller: Caller): void => reach.refuseConfined(caller, "the device lock");
  return [
    route({
      method: "GET",
      path: "/lock",
      summary: "The records of the device lock, oldest first, and the locks that were ended",
      scope: "devices:read",
      answer: mapLock,
      run: () => locks.lock,
    }),
    route({
      method: "POST",
      path: "/lock",
      summary: "Begin a device lock, or change who is trusted; trusted devices sign, the coordinator cannot",
      scope: "settings:write",
      body: deviceLockRequest,
      answer: mapLock,
      async run({ body, caller }) {
        mayDecide(caller);
        const lock = await locks.advance(body, caller);
        log?.info("device lock changed", { records: lock.records.length });
        return lock;
      },
    }),
    route({
      method: "POST",
      path: "/lock/signatures",
      summary: "Hand in trusted devices' signatures for other devices",
      scope: "devices:write",
      body: signatureRequest,
      async run({ body, caller }) {
        mayDecide(caller);
        await locks.sign(body.signatures, caller);
        return undefined;
      },
    }),
    route({
      method: "POST",
      path: "/lock/end",
      summary: "End the device lock by its secret, which every device checks for itself",
      scope: "settings:write",
      body: lockEnd,
      async run({ body, caller }) {
        mayDecide(caller);
        await locks.end(body.secret, caller);
        log?.info("device lock ended");
        return undefined;
      },
    }),
  ];
}
