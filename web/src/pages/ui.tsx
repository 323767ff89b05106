// SPDX-License-Identifier: Apache-2.0
import { Page } from "../parts";

export function UiPage() {
    return <Page title="Parts" />;
}
