package simulate

import "vaglio"

// fromNewPhone turns an ordinary claim into one from a new phone, on a journey, after a password reset.
func (c *customer) fromNewPhone(p *payment, q *claim) {
	k := knobs.phone
	d := c.d
	q.lookAlike = NewPhone
	changed := max(q.at-d.hours(k.before), p.at+vaglio.Second)
	q.ip = c.plan.ids.ip(c.index, c.things+1)
	q.device = c.newPhone(changed)
	if d.chance(k.failedLogins) {
		c.failLogins(changed, 1+d.poisson(0.8), q.device, q.ip)
	}
	if d.chance(k.credentials) {
		c.changeCredentials(changed+d.span(0, 5*vaglio.Minute), q.device, q.ip)
	}
	if d.chance(k.stepUp) {
		c.stepUp("step_up_passed", max(q.at-d.span(10*vaglio.Second, 4*vaglio.Minute), p.at+vaglio.Second), q.device)
		q.authentication = "strong"
	}
}

// toOwnAccount turns an ordinary claim into one that pays to another account of the same person, whose bank changed and
// sometimes the phone, too.
func (c *customer) toOwnAccount(p *payment, q *claim) {
	k := knobs.own
	d := c.d
	if d.chance(k.newPhone) {
		c.fromNewPhone(p, q)
	}
	q.lookAlike = OwnAccount
	c.toAnother(q)
}

// toAnother sends the money to an instrument of the same person that has not paid before.
func (c *customer) toAnother(q *claim) {
	k := knobs.own
	d := c.d
	q.payout = c.plan.ids.instrument("sct_inst", c.index, c.things+1)
	c.things++
	q.payee = d.pick(k.payee)
	if d.chance(k.added) {
		c.addPayout(max(q.at-d.hours(k.before), c.opened+vaglio.Minute), q.payout, c.deviceAt(q.at), c.ipAt())
	}
	if d.chance(k.byEmployee) {
		q.employee = c.plan.employees[d.IntN(len(c.plan.employees))]
	}
}

// thinkAgain lets a newcomer make a large deposit and want it on another account: it looks like a mule, yet is none of the
// five look-alikes.
func (c *customer) thinkAgain(at vaglio.Instant) {
	k := knobs.own
	d := c.d
	m := &c.plan.merchants[c.plan.merchant(d, true)]
	p := c.pay(at, order{merchant: m, unused: true, amount: c.price(m, d.lognormal(k.newcomerFactor, 0.7))})
	q := c.ordinaryClaim(p, secondThoughts)
	if d.chance(k.newcomersHurry) {
		c.tryOut(p)
		q.at = p.at + d.hours(knobs.mule.toRequest)
		q.amount = p.amount - p.used(q.at)
	}
	c.toAnother(&q)
	c.ask(p, q)
}

// tryOut uses a little of a deposit, or nothing.
func (c *customer) tryOut(p *payment) {
	if spent := c.d.between(knobs.mule.spentShare[0], knobs.mule.spentShare[1]); spent > 0.03 {
		p.uses[0] = use{p.at + c.d.span(5*vaglio.Minute, 3*vaglio.Hour), int64(spent * float64(p.amount))}
	}
}

// outage charges the customer twice while a provider fails, and lets it ask one charge back within two hours.
func (c *customer) outage(o *outage) {
	d := c.d
	paid := o.at + d.span(0, 90*vaglio.Minute)
	if paid < c.opened+vaglio.Hour {
		return
	}
	first := order{merchant: &c.plan.merchants[o.merchant], unused: true}
	if d.chance(0.3) {
		first.ip = o.ip // a shop's or an office's line
	}
	p := c.pay(paid, first)
	twin := c.pay(paid+d.span(2*vaglio.Second, 2*vaglio.Minute), order{amount: p.amount, source: p.source, merchant: p.merchant,
		device: p.device, ip: p.ip, unused: true, quiet: true})
	c.ask(twin, claim{at: twin.at + d.span(2*vaglio.Minute, o.at+2*vaglio.Hour-paid), reason: "duplicate", device: p.device, ip: p.ip,
		lookAlike: Outage})
}
