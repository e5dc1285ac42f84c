package simulate

import "vaglio"

// schemes are what the patterns do to a customer's life; customers without a pattern have none.
var schemes = [patternCount]func(*customer){
	SerialRefunder:   (*customer).refundSerially,
	AccountTakeover:  (*customer).beTakenOver,
	MuleDeposit:      (*customer).muleDeposit,
	DeviceRing:       (*customer).actInRing,
	NotReceivedAbuse: (*customer).denyReceipt,
	SpentDisowned:    (*customer).spendAndDisown,
	DoubleDip:        (*customer).dipTwice,
	Insider:          (*customer).beUsedByInsider,
}

// prepareRole fits the account to its part before it lives: its age, its pace, when it stops paying, what it shares.
func (c *customer) prepareRole() {
	r := c.role
	if r == nil {
		return
	}
	d := c.d
	switch r.pattern {
	case Honest:
		if r.heavy {
			c.rate = c.plan.heavyRate * d.lognormal(0.92, 0.4)
		}
	case SerialRefunder:
		c.ends = r.at
	case AccountTakeover:
		c.opened = min(c.opened, r.at-d.span(91*vaglio.Day, 400*vaglio.Day))
	case MuleDeposit:
		k := knobs.mule
		c.opened = r.at - min(d.days(k.ageDays), 29*vaglio.Day)
		c.ends = 0
	case DeviceRing:
		k := knobs.ring
		c.opened = r.at - d.days(k.calmDays)
		c.ends = r.ring.bursts[len(r.ring.bursts)-1].at
		c.rate = 12 * k.paymentsPerMonth
		c.scale = d.lognormal(k.amountMedian, 0.3)
		if d.chance(k.ringDevice) {
			c.address = r.ring.addresses[r.slot%len(r.ring.addresses)]
		}
		c.homeIP = r.ring.ips[r.slot%len(r.ring.ips)]
	case Insider:
		k := knobs.insider
		c.ends = r.at - hours(24*d.between(k.dormantDays[0], k.dormantDays[1]))
	default:
		c.rate = max(c.rate, 12)
	}
}

// The reasons through which a serial refunder rotates.
var (
	serialGoods = []choice{{"not_as_described", 1}, {"not_received", 1}, {"changed_mind", 1}, {"other", 1}, {"wrong_amount", 1},
		{"withdrawal_right", 1}}
	serialDeposits = []choice{{"service_failure", 1}, {"changed_mind", 1}, {"not_credited", 1}, {"other", 1}, {"wrong_amount", 1}}
)

// refundSerially asks back a share of payments that climbs over months, for ever other reasons, often in part and just
// below round amounts, always from the usual device to the source.
func (c *customer) refundSerially() {
	k := knobs.serial
	d := c.d
	r := c.role
	payments := float64(r.requests) / (k.lastShare - (k.lastShare-k.firstShare)*k.climb/2)
	drift := c.plan.start + vaglio.Instant(float64(c.plan.config.Until-c.plan.start)*k.driftFrom)
	due, asked, turn := d.Float64(), 0, d.IntN(len(serialGoods))
	for i := 0.0; i < payments && asked < r.requests; i++ {
		x := (i + d.Float64()) / payments
		at := c.awake(r.at + vaglio.Instant(x*float64(r.end-r.at)))
		factor := d.lognormal(1, knobs.base.amountSigma)
		if at >= drift {
			factor *= k.drift
		}
		due += k.firstShare + (k.lastShare-k.firstShare)*min(x/k.climb, 1)
		if due >= 1 {
			factor *= k.dearer
		}
		o := order{goods: d.chance(0.7)}
		o.deposit = !o.goods
		o.merchant = &c.plan.merchants[c.plan.merchant(d, o.deposit)]
		o.amount = c.price(o.merchant, factor)
		p := c.pay(at, o)
		if due < 1 {
			continue
		}
		due--
		asked++
		turn++
		reasons := serialGoods
		if p.merchant.deposit {
			reasons = serialDeposits
		}
		q := c.ordinaryClaim(p, reasons[turn%len(reasons):][:1])
		q.pattern = SerialRefunder
		if d.chance(k.partial) && p.amount > 2_000 {
			q.amount = int64(float64(p.amount)*d.between(0.3, 0.95))/1_000*1_000 - int64(d.whole(1, 200))
			q.amount = max(q.amount, 500)
		}
		c.ask(p, q)
	}
}

// unasked are the customer's payments in a span about which nobody has asked yet.
func (c *customer) unasked(from, until vaglio.Instant) (out []*payment) {
	for _, p := range c.payments {
		if !p.requested && p.at >= from && p.at < until {
			out = append(out, p)
		}
	}
	return
}

// beTakenOver lets an attacker log in, change the account and ask a payment of the victim's back, mostly to another
// account; no sign but the request is always there, yet never all are missing.
func (c *customer) beTakenOver() {
	k := knobs.takeover
	d := c.d
	r := c.role
	end := r.at + min(max(d.hours(k.span), vaglio.Hour), 48*vaglio.Hour)
	targets := c.unasked(r.at-30*vaglio.Day, r.at)
	if len(targets) == 0 {
		targets = append(targets, c.pay(c.awake(r.at-d.span(vaglio.Day, 20*vaglio.Day)), order{}))
	}
	device, ip := r.device, r.ip
	elsewhere := d.chance(k.payoutElsewhere)
	if elsewhere && !d.chance(k.newDevice) {
		device = c.deviceAt(r.at) // the victim's own, remotely steered
		ip = c.ipAt()
	}
	if d.chance(k.failedLogins) {
		c.failLogins(r.at, 1+d.poisson(1.2), device, ip)
	}
	c.login(r.at, device, ip)
	step := func() vaglio.Instant { return d.span(r.at+vaglio.Minute, end-10*vaglio.Minute) }
	if !elsewhere || d.chance(k.credentials) {
		c.changeCredentials(step(), device, ip)
	}
	payout, payee := "", ""
	if elsewhere {
		payout, payee = c.plan.ids.instrument("sct_inst", c.index, c.things+1), d.pick(k.payee)
		c.things++
		if d.chance(k.payoutAdded) {
			c.addPayout(step(), payout, device, ip)
		}
	}
	if d.chance(k.passed) {
		c.stepUp(d.pick([]choice{{"step_up_passed", 0.6}, {"step_up_failed", 0.4}}), end-d.span(vaglio.Minute, 8*vaglio.Minute), device)
	}
	for i := range 1 + d.about(k.second) {
		if i >= len(targets) {
			break
		}
		p := targets[len(targets)-1-i]
		q := claim{at: end + vaglio.Instant(i)*d.span(vaglio.Minute, 3*vaglio.Hour), device: device, ip: ip, payout: payout, payee: payee,
			pattern: AccountTakeover, contacted: d.chance(0.7)}
		q.reason = c.plausibleReason(p)
		c.ask(p, q)
	}
}

// plausibleReason is one that an honest customer might give, without making it true.
func (c *customer) plausibleReason(p *payment) string {
	if p.merchant.deposit {
		return c.d.pick(depositReasons)
	}
	return c.d.pick(goodsReasons)
}

// muleDeposit pays in on a young account and has it paid out, hardly touched, to an instrument that several mules share.
func (c *customer) muleDeposit() {
	k := knobs.mule
	d := c.d
	r := c.role
	for range d.poisson(k.smallPayments) {
		c.pay(c.awake(d.span(c.opened, r.at)), order{})
	}
	device, ip := "", ""
	if d.chance(k.groupDevice) {
		device, ip = r.device, r.ip
	}
	rail := d.pick([]choice{{"sct_inst", 0.6}, {"open_banking", 0.25}, {"card", 0.15}})
	paidFrom := source{c.plan.ids.instrument(rail, c.index, c.things+1), rail}
	c.things++
	payout := r.payout
	if d.chance(k.ownPayout) {
		payout = c.plan.ids.instrument("sct_inst", c.index, c.things+1)
		c.things++
	}
	at := max(r.at, c.opened+10*vaglio.Minute)
	deposits := 1 + d.about(k.second)
	for range deposits {
		amount := int64(min(max(d.lognormal(k.amountMedian, k.amountSigma), 30_000), 300_000))
		p := c.pay(at, order{amount: amount / 1_000 * 1_000, deposit: true, source: paidFrom, device: device, ip: ip, unused: true})
		c.tryOut(p)
		at += d.span(vaglio.Hour, 20*vaglio.Hour)
		if deposits == 2 && d.chance(0.5) {
			continue
		}
		asked := p.at + min(max(d.hours(k.toRequest), 20*vaglio.Minute), 72*vaglio.Hour)
		if d.chance(0.5) {
			c.addPayout(d.span(p.at+vaglio.Minute, asked), payout, p.device, p.ip)
		}
		c.ask(p, claim{at: asked, amount: amount/1_000*1_000 - p.used(asked), device: device, ip: ip, payout: payout, payee: d.pick(k.payee),
			pattern: MuleDeposit, reason: d.pick(secondThoughts)})
	}
}

// actInRing pays calmly for weeks (as an ordinary life, from the ring's addresses) and asks in the ring's bursts.
func (c *customer) actInRing() {
	k := knobs.ring
	d := c.d
	r := c.role.ring
	device := r.devices[c.role.slot%len(r.devices)]
	for _, p := range c.payments {
		if d.chance(k.ringDevice) {
			c.login(p.at+d.span(vaglio.Minute, 5*vaglio.Hour), device, c.homeIP)
		}
	}
	for i := range r.bursts {
		b := &r.bursts[i]
		if !d.chance(k.takesPart) {
			continue
		}
		targets := c.unasked(b.at-30*vaglio.Day, b.at)
		if len(targets) == 0 {
			targets = append(targets, c.pay(max(c.awake(b.at-d.span(2*vaglio.Day, 12*vaglio.Day)), c.opened+vaglio.Hour), order{}))
		}
		p := targets[d.IntN(len(targets))]
		q := claim{at: b.at + d.span(0, b.length), reason: c.plausibleReason(p), pattern: DeviceRing, labelAt: b.labelAt}
		if d.chance(k.ringDevice) {
			q.device, q.ip = device, c.homeIP
		}
		if d.chance(k.sharedPayout) {
			q.payout, q.payee = r.payouts[c.role.slot%len(r.payouts)], d.pick(knobs.mule.payee)
		}
		c.ask(p, q)
	}
}

// times spreads the scheme's requests from its moment on, some weeks apart.
func (c *customer) times(do func(at vaglio.Instant)) {
	at := c.role.at
	for range c.role.requests {
		do(c.awake(at))
		at += c.d.span(15*vaglio.Day, 60*vaglio.Day)
		if at >= c.plan.config.Until-2*vaglio.Day {
			at = c.d.span(max(c.opened, c.plan.start), c.role.at)
		}
	}
}

// denyReceipt buys something dearer than usual and claims, after its delivery, that it never came.
func (c *customer) denyReceipt() {
	k := knobs.received
	d := c.d
	c.times(func(at vaglio.Instant) {
		m := &c.plan.merchants[c.plan.merchant(d, false)]
		p := c.pay(at, order{goods: true, merchant: m, amount: c.price(m, d.lognormal(k.priceFactor, k.priceSigma))})
		p.delivered = c.awake(at + d.span(vaglio.Day, 5*vaglio.Day))
		asked := p.delivered + hours(24*d.between(k.claimDays[0], k.claimDays[1]))
		c.ask(p, claim{at: c.awake(asked), reason: "not_received", pattern: NotReceivedAbuse})
	})
}

// spendAndDisown uses up a deposit within hours and then says that somebody else made it.
func (c *customer) spendAndDisown() {
	k := knobs.spent
	d := c.d
	c.times(func(at vaglio.Instant) {
		m := &c.plan.merchants[c.plan.merchant(d, true)]
		p := c.pay(at, order{deposit: true, merchant: m, unused: true, amount: c.price(m, d.lognormal(k.amountFactor, k.amountSigma))})
		used := int64(float64(p.amount) * d.between(k.share[0], k.share[1]))
		first := int64(float64(used) * d.between(0.3, 1))
		p.uses = [2]use{{at + hours(d.between(k.spendHours[0], k.spendHours[1])), first},
			{at + hours(d.between(k.spendHours[0], k.spendHours[1])), used - first}}
		asked := at + max(d.hours(k.toRequest), hours(k.spendHours[1])+5*vaglio.Minute)
		c.ask(p, claim{at: asked, reason: "unauthorised", pattern: SpentDisowned})
	})
}

// dipTwice gets an ordinary refund, and later the same money again from the bank.
func (c *customer) dipTwice() {
	d := c.d
	if earlier := c.unasked(c.role.at-300*vaglio.Day, c.role.at-40*vaglio.Day); len(earlier) > 0 && d.chance(knobs.dip.before) {
		p := earlier[d.IntN(len(earlier))]
		kind := vaglio.KindChargeback
		if p.source.rail == "direct_debit" {
			kind = "payment_returned"
		}
		c.emit(kind, p.settled+d.days(spread{14, 4, 45}), p.amount, c.disputeEntities(p, ""), nil)
		p.requested = true // so that nothing else happens to it
	}
	c.times(func(at vaglio.Instant) {
		rail := d.pick([]choice{{"card", 0.65}, {"direct_debit", 0.35}})
		paidFrom := source{rail: rail}
		for _, s := range c.sources {
			if s.rail == rail {
				paidFrom = s
			}
		}
		if paidFrom.id == "" {
			c.things++
			paidFrom.id = c.plan.ids.instrument(rail, c.index, c.things)
			c.sources = append(c.sources, paidFrom)
		}
		p := c.pay(at, order{source: paidFrom})
		reasons := goodsReasons
		if p.merchant.deposit {
			reasons = depositReasons
		}
		q := c.ordinaryClaim(p, reasons)
		q.pattern = DoubleDip
		c.ask(p, q)
	})
}

// beUsedByInsider lets an employee raise a refund of an old payment to an account that is not the customer's.
func (c *customer) beUsedByInsider() {
	k := knobs.insider
	d := c.d
	r := c.role
	amount := int64(k.limit * d.between(k.share[0], k.share[1]))
	var p *payment
	for _, old := range c.payments {
		if !old.requested && old.amount >= int64(0.4*k.limit) && old.at > r.at-200*vaglio.Day {
			p = old
		}
	}
	if p == nil {
		m := &c.plan.merchants[c.plan.merchant(d, d.chance(0.5))]
		at := max(c.awake(max(c.plan.start, c.ends)-d.span(0, 10*vaglio.Day)), c.plan.start+d.span(0, vaglio.Day))
		p = c.pay(at, order{merchant: m, amount: amount + int64(d.between(0, 0.5*k.limit))})
	}
	at := r.at
	if !d.chance(k.lateShift) {
		at = c.awake(at)
	}
	c.ask(p, claim{at: at, amount: min(amount, p.amount), employee: r.employee, payout: r.payout, payee: d.pick(k.payee),
		reason: c.d.pick([]choice{{"service_failure", 0.4}, {"other", 0.3}, {"duplicate", 0.3}}), pattern: Insider, labelAt: r.labelAt, contacted: true})
}
