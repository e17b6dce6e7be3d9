import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { createdToken, tokenInfo, tokenRequest } from "../../wire/adminapi.js";
import { nextCursor, pageOf, pageQuery } from "./page.js";
import type { ApiParts } from "./parts.js";
import { Reach } from "./reach.js";
import { type Route, route } from "./route.js";

export function tokenRoutes({ tokens, people }: ApiParts): Route[] {
  const reach = new Reach(people);
  return [
    route({
      method: "POST",
      path: "/tokens",
      summary: "Make an API token, of no more than the caller may; it is shown this once",
      scope: "tokens:write",
      body: tokenRequest,
      answer: createdToken,
      async run({ body, caller, created }) {
        const beyond = body.scopes.filter((scope) => !caller.may(scope));
        if (beyond.length > 0)
          throw new Failure("scope-missing", `nobody can give what they do not have: ${beyond.join(", ")}`, {
            advice: "ask for less, or ask somebody who has it",
          });
        const answer = await tokens.create(body, caller);
        created();
        return answer;
      },
    }),
    route({
      method: "GET",
      path: "/tokens",
      summary: "The API tokens and when each was last used",
      scope: "tokens:read",
      query: pageQuery,
      answer: z.object({ tokens: z.array(tokenInfo), ...nextCursor }),
      async run({ query, caller }) {
        const theirs = (await tokens.list()).filter(({ userId }) => reach.has(caller, userId));
        const { page, ...next } = pageOf(theirs, query);
        return { tokens: page, ...next };
      },
    }),
    route({
      method: "DELETE",
      path: "/tokens/:id",
      summary: "Make an API token useless",
      scope: "tokens:write",
      async run({ param, caller }) {
        const id = param("id");
        const isOurs = (await tokens.list()).some((token) => token.id === id && reach.has(caller, token.userId));
        if (!isOurs)
          throw new Failure("token-unknown", `no API token has the id "${id}"`, { advice: "exitnode token list" });
        await tokens.revoke(id, caller);
        return undefined;
      },
    }),
  ];
}
