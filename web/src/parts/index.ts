// SPDX-License-Identifier: Apache-2.0
// All parts; /ui shows them, doc/design-language.md says when to use which.
export * from "./button";
export * from "./card";
export * from "./choose";
export * from "./dialog";
export * from "./feedback";
export * from "./form";
export * from "./icon";
export * from "./inert";
export * from "./logbuffer";
export * from "./logview";
export * from "./meter";
export * from "./page";
export * from "./plot";
export * from "./state";
export * from "./steps";
export * from "./table";
export * from "./text";
export * from "./tone";
