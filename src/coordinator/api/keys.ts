import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { parseKey } from "../../kit/key.js";
import { createdKey, type KeyInfo, keyInfo, keyRequest } from "../../wire/adminapi.js";
import { encodeJoinKey } from "../../wire/joinkey.js";
import { nextCursor, pageOf, pageQuery } from "./page.js";
import type { ApiParts } from "./parts.js";
import { Reach } from "./reach.js";
import { type Route, route } from "./route.js";

export function keyRoutes({ registry, people, policies, status, log }: ApiParts): Route[] {
  const reach = new Reach(people);
  const named = (info: KeyInfo): KeyInfo => {
    const user = info.userId === undefined ? undefined : people.users.get(info.userId)?.login;
    return user === undefined ? info : { ...info, user };
  };
  return [
    route({
      method: "POST",
      path: "/keys",
      summary: "Make a join key; it is shown this once",
      scope: "keys:write",
      body: keyRequest,
      answer: createdKey,
      async run({ body, caller, created }) {
        // A member's key lets in devices of theirs, as the network's settings say.
        const isTagged = body.tags.length > 0 && !policies.ownsTags(caller.userId, body.tags);
        if (body.role !== "device" || isTagged || body.preapproved !== undefined)
          reach.refuseConfined(caller, "a key for exit nodes, with tags, or that says who needs approval");
        const userId = reach.owner(caller, body.user, "a key for devices");
        if (userId !== undefined && body.role !== "device")
          throw new Failure("message-invalid", "an exit node is the network's own: a key for one names no user");
        const { info, secret } = await registry.createKey({ ...body, userId }, caller);
        const { publicKey, urls } = status();
        const joinKey = encodeJoinKey({ coordinatorKey: parseKey(publicKey), urls, secret });
        log?.info("join key made", { key: info.id, role: info.role });
        created();
        return { ...named(info), joinKey };
      },
    }),
    route({
      method: "GET",
      path: "/keys",
      summary: "The join keys and what became of them",
      scope: "keys:read",
      query: pageQuery,
      answer: z.object({ keys: z.array(keyInfo), ...nextCursor }),
      async run({ query, caller }) {
        const theirs = (await registry.keys()).filter(({ userId }) => reach.has(caller, userId));
        const { page, ...next } = pageOf(theirs, query);
        return { keys: page.map(named), ...next };
      },
    }),
    route({
      method: "DELETE",
      path: "/keys/:id",
      summary: "Revoke a join key; devices it let in stay",
      scope: "keys:write",
      run: async ({ param, caller }) => {
        const id = param("id");
        const isOurs = (await registry.keys()).some((key) => key.id === id && reach.has(caller, key.userId));
        if (!isOurs)
          throw new Failure("key-unknown", `no join key has the id "${id}"`, { advice: "exitnode key list" });
        await registry.revokeKey(id, caller);
        return undefined;
      },
    }),
  ];
}
