import * as z from "zod";
import { invitation, userChange, userInfo, userRequest } from "../../wire/identity.js";
import { describeUser } from "../identity/user.js";
import { nextCursor, pageOf, pageQuery } from "./page.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function userRoutes({ people, invites }: ApiParts): Route[] {
  return [
    route({
      method: "GET",
      path: "/users",
      summary: "The people of the network, disabled ones too",
      scope: "users:read",
      query: pageQuery,
      answer: z.object({ users: z.array(userInfo), ...nextCursor }),
      run({ query }) {
        const { page, ...next } = pageOf(people.users.values(), query);
        return { users: page.map(describeUser), ...next };
      },
    }),
    route({
      method: "POST",
      path: "/users",
      summary: "Add a person, who may then sign in at the identity provider by that address, or be invited",
      scope: "users:write",
      body: userRequest,
      answer: userInfo,
      async run({ body, caller, created }) {
        const user = await people.add(body, caller);
        created();
        return describeUser(user);
      },
    }),
    route({
      method: "PATCH",
      path: "/users/:user",
      summary: "Give a person another role, disable or enable them; by id or login. Their sessions end",
      scope: "users:write",
      body: userChange,
      answer: userInfo,
      run: async ({ param, body, caller }) => describeUser(await people.amend(param("user"), body, caller)),
    }),
    route({
      method: "POST",
      path: "/users/:user/invite",
      summary: "Make a one-time link with which a person enrols a passkey; it is shown this once",
      scope: "users:write",
      answer: invitation,
      async run({ param, caller, created }) {
        const made = await invites.create(param("user"), caller);
        created();
        return made;
      },
    }),
    route({
      method: "DELETE",
      path: "/users/:user/passkeys",
      summary: "Make a person's passkeys useless, and end their sessions",
      scope: "users:write",
      async run({ param, caller }) {
        await people.forgetPasskeys(param("user"), caller);
        return undefined;
      },
    }),
  ];
}
