import * as z from "zod";
import { parseKey } from "../../kit/key.js";
import { createdKey, keyInfo, keyRequest } from "../../wire/adminapi.js";
import { encodeJoinKey } from "../../wire/joinkey.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function keyRoutes({ registry, status, log }: ApiParts): Route[] {
  return [
    route({
      method: "POST",
      path: "/keys",
      summary: "Make a join key; it is shown this once",
      scope: "keys:write",
      body: keyRequest,
      answer: createdKey,
      async run({ body, caller, created }) {
        const { info, secret } = await registry.createKey(body, caller);
        const { publicKey, urls } = status();
        const joinKey = encodeJoinKey({ coordinatorKey: parseKey(publicKey), urls, secret });
        log?.info("join key made", { key: info.id, role: info.role });
        created();
        return { ...info, joinKey };
      },
    }),
    route({
      method: "GET",
      path: "/keys",
      summary: "The join keys and what became of them",
      scope: "keys:read",
      answer: z.object({ keys: z.array(keyInfo) }),
      run: async () => ({ keys: await registry.keys() }),
    }),
    route({
      method: "DELETE",
      path: "/keys/:id",
      summary: "Revoke a join key; devices it let in stay",
      scope: "keys:write",
      run: async ({ param, caller }) => {
        await registry.revokeKey(param("id"), caller);
        return undefined;
      },
    }),
  ];
}
