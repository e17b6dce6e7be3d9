import { SCOPES } from "../../wire/adminapi.js";
import { networkIdentity, sessionInfo } from "../../wire/identity.js";
import { describeUser } from "../identity/user.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function sessionRoutes({ people, status }: ApiParts): Route[] {
  return [
    route({
      method: "GET",
      path: "/network",
      summary: "The coordinator's public key and URLs: as far as the certificate is good, a machine may trust them",
      scope: "public",
      answer: networkIdentity,
      run() {
        const { publicKey, urls } = status();
        return { publicKey, urls: [...urls] };
      },
    }),
    route({
      method: "GET",
      path: "/session",
      summary: "Who asks, and what they may",
      scope: "status:read",
      answer: sessionInfo,
      run({ caller }) {
        const user = caller.userId === undefined ? undefined : people.users.get(caller.userId);
        const scopes = SCOPES.filter((scope) => caller.may(scope));
        return { name: caller.name, scopes, ...(user === undefined ? {} : { user: describeUser(user) }) };
      },
    }),
  ];
}
