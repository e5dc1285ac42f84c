package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vaglio"
	"vaglio/client"
)

// A pipeline tells of a payment, asks whether it may go back, and acts on the decision.
func Example() {
	c, err := client.New(serverURL, adminKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	if _, err := c.Events(ctx, vaglio.Event{ID: "evt_100", Kind: vaglio.KindPayment, OccurredAt: vaglio.InstantOf(time.Now().Add(-time.Hour)),
		Entities: vaglio.FieldsOf("customer", "c_100", "payment", "p_100"), Amount: 1999, Currency: "EUR"}); err != nil {
		fmt.Println(err)
		return
	}
	d, err := c.Score(ctx, &vaglio.Request{ID: "rr_100", Type: "refund", Amount: 1999, Currency: "EUR", Reason: "not_received",
		Entities: vaglio.FieldsOf("customer", "c_100", "payment", "p_100")})
	switch {
	case errors.Is(err, client.ErrConflict):
		fmt.Println("another request has this id")
	case err != nil:
		fmt.Println("a person has to look:", err)
	case d.Verdict == vaglio.Approve:
		fmt.Println("pay", d.ApprovedAmount)
	case d.Verdict == vaglio.Deny:
		fmt.Println("do not pay")
	default: // the server of this example has no model
		fmt.Println("a person has to look:", d.DegradedReasons)
	}
	// Output: a person has to look: [model_unavailable]
}

// A problem names every wrong field.
func ExampleProblem() {
	c, err := client.New(serverURL, adminKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_, err = c.Score(context.Background(), &vaglio.Request{ID: "rr_101", Type: "gift", Amount: 0, Currency: "EUR", Entities: vaglio.FieldsOf("customer", "c_1")})
	var p *client.Problem
	if errors.As(err, &p) {
		fmt.Println(p.Type)
		for _, f := range p.Fields {
			fmt.Println(f.Pointer, f.Detail)
		}
	}
	// Output:
	// /problems/invalid-request
	// /type want one of cancellation, refund, recall
	// /amount must be above 0
}
