import {
  policyInfo,
  policyPreview,
  policyRequest,
  policyRollback,
  policySaved,
  policyTrial,
  policyVersions,
} from "../../wire/policyapi.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function policyRoutes({ policies, log }: ApiParts): Route[] {
  return [
    route({
      method: "GET",
      path: "/policy",
      summary: "The policy that holds; version 0 is what holds without one",
      scope: "policy:read",
      answer: policyInfo,
      run({ version }) {
        version(policies.current.version);
        return policies.current;
      },
    }),
    route({
      method: "PUT",
      path: "/policy",
      summary: "Save a policy whose own tests hold; every device follows it at once",
      scope: "policy:write",
      replaces: true,
      body: policyRequest,
      answer: policySaved,
      async run({ body, caller, ifMatch }) {
        const found = await policies.set(body.text, ifMatch ?? body.replaces, caller);
        const saved = policies.current.version;
        log?.info("policy saved", { version: saved, changes: found.changes.length + found.more });
        return { ...found, saved };
      },
    }),
    route({
      method: "POST",
      path: "/policy/preview",
      summary: "Run a policy's own tests, and tell who would gain and lose what by it; nothing is changed",
      scope: "policy:read",
      body: policyTrial,
      answer: policyPreview,
      run: ({ body }) => policies.preview(body.text),
    }),
    route({
      method: "GET",
      path: "/policy/versions",
      summary: "The policies there were, the newest first",
      scope: "policy:read",
      answer: policyVersions,
      run: async () => ({ versions: (await policies.history()).map(({ text: _, ...version }) => version) }),
    }),
    route({
      method: "POST",
      path: "/policy/rollback",
      summary: "Save an older version as the newest one",
      scope: "policy:write",
      body: policyRollback,
      answer: policySaved,
      async run({ body, caller }) {
        const found = await policies.rollback(body.to, caller);
        return { ...found, saved: policies.current.version };
      },
    }),
  ];
}
