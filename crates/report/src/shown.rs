//! Which answer is seen how? Every answer's forms, by its own file.

use plimsoll_api::textbook::TextbookAnswer;
use plimsoll_api::{
    CatalogueAnswer, Explanation, InspectAnswer, PlanAnswer, ReconcileAnswer, RooflineAnswer, SimulateAnswer,
    SimulateCompareAnswer,
};

use crate::figure::Figure;
use crate::figures_of;
use crate::{
    Show, Style, catalogue_csv, catalogue_markdown, catalogue_table, explanation_csv, explanation_table, inspect_csv,
    inspect_markdown, inspect_table, plan_csv, plan_markdown, plan_table, reconcile_csv, reconcile_markdown,
    reconcile_table, roofline_csv, roofline_markdown, roofline_table, simulate_compare_csv, simulate_compare_markdown,
    simulate_compare_table, simulate_csv, simulate_markdown, simulate_table, textbook_csv, textbook_markdown,
    textbook_table,
};

impl Show for PlanAnswer {
    fn question(&self) -> String {
        format!("Where does the memory go when {} serves {}?", self.engine.name, self.model.id)
    }

    fn table(&self, style: Style) -> String {
        plan_table(self, style)
    }

    fn markdown(&self) -> String {
        plan_markdown(self)
    }

    fn csv(&self) -> String {
        plan_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::plan(self)
    }
}

impl Show for InspectAnswer {
    fn question(&self) -> String {
        format!("What is {}?", self.model.id)
    }

    fn table(&self, style: Style) -> String {
        inspect_table(self, false, style)
    }

    fn markdown(&self) -> String {
        inspect_markdown(self)
    }

    fn csv(&self) -> String {
        inspect_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::inspect(self)
    }
}

impl Show for CatalogueAnswer {
    fn question(&self) -> String {
        format!("Which {} are built in?", self.kind)
    }

    fn table(&self, style: Style) -> String {
        catalogue_table(self, style)
    }

    fn markdown(&self) -> String {
        catalogue_markdown(self)
    }

    fn csv(&self) -> String {
        catalogue_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::catalogue(self)
    }
}

impl Show for ReconcileAnswer {
    fn question(&self) -> String {
        format!("Was the plan right for {}?", self.log.name)
    }

    fn table(&self, style: Style) -> String {
        reconcile_table(self, style)
    }

    fn markdown(&self) -> String {
        reconcile_markdown(self)
    }

    fn csv(&self) -> String {
        reconcile_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::reconcile(self)
    }
}

impl Show for RooflineAnswer {
    fn question(&self) -> String {
        format!("How fast can {} go on {}?", self.model.id, self.gpu.name)
    }

    fn table(&self, style: Style) -> String {
        roofline_table(self, style)
    }

    fn markdown(&self) -> String {
        roofline_markdown(self)
    }

    fn csv(&self) -> String {
        roofline_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::roofline(self)
    }
}

impl Show for SimulateAnswer {
    fn question(&self) -> String {
        format!("How does {} behave on {} under this traffic?", self.model.id, self.gpu.name)
    }

    fn table(&self, style: Style) -> String {
        simulate_table(self, style)
    }

    fn markdown(&self) -> String {
        simulate_markdown(self)
    }

    fn csv(&self) -> String {
        simulate_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::simulate(self)
    }
}

impl Show for SimulateCompareAnswer {
    fn question(&self) -> String {
        format!("Which way of batching serves {} best?", self.model.id)
    }

    fn table(&self, style: Style) -> String {
        simulate_compare_table(self, style)
    }

    fn markdown(&self) -> String {
        simulate_compare_markdown(self)
    }

    fn csv(&self) -> String {
        simulate_compare_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::simulate_compare(self)
    }
}

impl Show for TextbookAnswer {
    fn question(&self) -> String {
        "What does the textbook say?".to_owned()
    }

    fn table(&self, style: Style) -> String {
        textbook_table(self, style)
    }

    fn markdown(&self) -> String {
        textbook_markdown(self)
    }

    fn csv(&self) -> String {
        textbook_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures_of::textbook(self)
    }
}

impl Show for Explanation {
    fn question(&self) -> String {
        "How does this number come about?".to_owned()
    }

    fn table(&self, style: Style) -> String {
        explanation_table(self, style)
    }

    fn markdown(&self) -> String {
        format!("```text\n{}```\n", explanation_table(self, Style::PLAIN))
    }

    fn csv(&self) -> String {
        explanation_csv(self)
    }
}
