package simulate

import (
	"vaglio"
)

// claim is one request about a payment. Zero fields are filled in as honest customers would.
type claim struct {
	at             vaglio.Instant
	amount         int64 // minor units; 0: all that is left
	reason         string
	device, ip     string
	payout         string // instrument; "": back to the source
	payee          string // result of the payee's verification; "": drawn when the rail has one
	employee       string // who raised it, if not the customer
	authentication string
	contacted      bool // the scheme has its own contacts
	pattern        Pattern
	lookAlike      LookAlike
	labelAt        vaglio.Instant // 0: drawn
	again          bool           // asked after a denial
}

var (
	depositReasons = []choice{{"duplicate", 0.12}, {"wrong_amount", 0.1}, {"not_credited", 0.2}, {"changed_mind", 0.28}, {"unauthorised", 0.08},
		{"service_failure", 0.13}, {"other", 0.09}}
	goodsReasons = []choice{{"duplicate", 0.07}, {"wrong_amount", 0.05}, {"not_received", 0.27}, {"not_as_described", 0.25}, {"changed_mind", 0.2},
		{"withdrawal_right", 0.09}, {"unauthorised", 0.03}, {"other", 0.04}}
	returnReasons = []choice{{"not_as_described", 0.33}, {"changed_mind", 0.35}, {"withdrawal_right", 0.16}, {"other", 0.06}, {"wrong_amount", 0.05},
		{"not_received", 0.05}}
	secondThoughts  = []choice{{"changed_mind", 0.45}, {"wrong_amount", 0.25}, {"not_credited", 0.15}, {"other", 0.15}}
	authentications = []choice{{"password", 0.55}, {"strong", 0.35}, {"none", 0.1}}
	sourcePayees    = []choice{{"match", 0.88}, {"close_match", 0.05}, {"unavailable", 0.06}, {"no_match", 0.01}}
)

// shop is an ordinary payment, with a request when chance has it.
func (c *customer) shop(at vaglio.Instant) {
	k := knobs.base
	if c.role != nil && c.role.heavy {
		asks := c.d.chance(c.role.share)
		o := order{goods: c.d.chance(knobs.heavy.goods)}
		o.merchant = &c.plan.merchants[c.plan.merchant(c.d, !o.goods && c.d.chance(c.deposits))]
		if asks {
			o.amount = c.price(o.merchant, c.d.lognormal(knobs.heavy.dearer, knobs.base.amountSigma))
		}
		p := c.pay(at, o)
		if asks {
			q := c.ordinaryClaim(p, returnReasons)
			q.lookAlike = HeavyReturner
			c.ask(p, q)
		}
		return
	}
	chance, newcomer := c.plan.honestRequest, at-c.opened < 30*vaglio.Day
	if newcomer {
		chance *= k.newcomerRequests
	}
	asks := c.d.chance(chance)
	if asks && newcomer && c.d.chance(knobs.own.newcomers*c.deposits) {
		c.thinkAgain(at)
		return
	}
	p := c.pay(at, order{})
	if !asks {
		return
	}
	if p.merchant.deposit && p.source.rail != "sct_inst" && c.d.chance(k.slips) {
		c.slip(p)
		return
	}
	reasons := goodsReasons
	if p.merchant.deposit {
		reasons = depositReasons
	}
	q := c.ordinaryClaim(p, reasons)
	switch {
	case c.d.chance(c.plan.newPhone) && q.at-c.opened > 30*vaglio.Day:
		c.fromNewPhone(p, &q)
	case c.d.chance(c.plan.own) && q.at-c.opened > hours(24*knobs.own.oldDays):
		c.toOwnAccount(p, &q)
	case c.d.chance(k.byEmployee):
		q.employee = c.plan.employees[c.d.IntN(len(c.plan.employees))]
	}
	if c.household != 0 && q.lookAlike == NoLookAlike {
		q.lookAlike = Household
	}
	c.ask(p, q)
}

// slip is a cancellation within minutes of a deposit made by mistake.
func (c *customer) slip(p *payment) {
	p.uses = [2]use{}
	p.delivered = 0
	at := p.at + c.d.span(30*vaglio.Second, 10*vaglio.Minute)
	reason := c.d.pick([]choice{{"wrong_amount", 0.6}, {"duplicate", 0.15}, {"changed_mind", 0.25}})
	c.ask(p, claim{at: at, reason: reason, device: p.device, ip: p.ip, contacted: true})
	if c.d.chance(knobs.base.corrected) {
		c.pay(at+c.d.span(vaglio.Minute, 20*vaglio.Minute), order{source: p.source, merchant: p.merchant, device: p.device, ip: p.ip, quiet: true})
	}
}

// ordinaryClaim is when and why an honest customer asks for money back, with the payment made to fit the reason.
func (c *customer) ordinaryClaim(p *payment, reasons []choice) claim {
	k := knobs.base
	d := c.d
	q := claim{reason: d.pick(reasons)}
	arrived := p.delivered
	if arrived == 0 {
		arrived = p.at + d.span(vaglio.Day, 6*vaglio.Day)
		if p.merchant.deposit {
			arrived = p.at
		}
	}
	switch q.reason {
	case "duplicate":
		twin := c.pay(p.at+d.span(5*vaglio.Second, 3*vaglio.Minute), order{amount: p.amount, source: p.source, merchant: p.merchant,
			device: p.device, ip: p.ip, unused: true, quiet: true})
		*p, *twin = *twin, *p // the later one is asked back; both stay in the list
		q.at = p.at + d.hours(spread{7, 0.3, 90})
	case "wrong_amount":
		q.at = p.at + d.hours(spread{9, 0.4, 100})
	case "not_credited":
		if !d.chance(0.25) {
			p.delivered = 0
			p.uses = [2]use{}
		}
		q.at = p.at + d.hours(spread{6, 0.5, 72})
	case "service_failure":
		q.at = p.at + d.hours(spread{12, 0.6, 120})
	case "not_received":
		if p.delivered != 0 && d.chance(k.deliveredYetClaimed) {
			q.at = p.delivered + d.days(spread{2, 0.3, 9})
			break
		}
		q.at = p.at + d.days(spread{9, 4, 24})
		p.delivered = 0
		if p.merchant.reports && d.chance(0.4) {
			p.delivered = q.at + d.span(vaglio.Day, 10*vaglio.Day)
		}
	case "unauthorised":
		q.at = p.at + d.days(spread{4, 0.3, 35})
		if p.merchant.deposit && d.chance(k.spentYetDisowned) {
			p.uses = [2]use{{p.at + d.hours(spread{2, 0.3, 12}), int64(float64(p.amount) * d.between(0.7, 1))}}
			q.at = p.at + d.hours(spread{22, 3, 120})
		}
		if p.source.rail == "card" && d.chance(0.4) {
			c.emit("early_fraud_warning", max(q.at+d.span(-2*vaglio.Day, 5*vaglio.Day), p.at+vaglio.Minute), p.amount, c.disputeEntities(p, ""), nil)
		}
	default: // changed_mind, withdrawal_right, not_as_described, other: after the goods came, or while credit lies unused
		q.at = arrived + d.days(spread{2.5, 0.15, 14})
		if p.merchant.deposit && d.chance(0.6) {
			p.uses = [2]use{}
		}
	}
	q.at = max(c.awake(q.at), p.at+3*vaglio.Minute)
	if left := p.amount - p.used(q.at); p.merchant.deposit && left > 100 && left < p.amount && q.reason != "unauthorised" && d.chance(0.6) {
		q.amount = left // what has been used is not asked back
	} else if q.reason != "duplicate" && d.chance(k.partial) {
		q.amount = max(int64(float64(p.amount)*d.between(0.15, 0.9))/10*10, 1)
	}
	return q
}

// ask emits a request about a payment and all that comes of it: the past policy's answer, disputes, labels.
func (c *customer) ask(p *payment, q claim) {
	k := knobs.base
	d := c.d
	until := c.plan.config.Until
	q.at = max(q.at, p.at+vaglio.Second)
	left := p.amount - p.refunded
	if q.at >= until || left <= 0 || p.cancelled != 0 {
		return
	}
	if q.amount == 0 || q.amount > left {
		q.amount = left
	}
	if q.device == "" {
		q.device = c.deviceAt(q.at)
	}
	if q.ip == "" {
		q.ip = c.ipAt()
	}
	requestedBy := "customer"
	switch {
	case q.employee != "":
		requestedBy, q.device, q.ip, q.authentication = "employee", "", "", "none"
	case d.chance(0.03):
		requestedBy = "merchant"
	}
	if q.authentication == "" {
		q.authentication = d.pick(authentications)
	}
	if q.payee == "" && (p.source.rail == "sct_inst" || p.source.rail == "open_banking") {
		q.payee = d.pick(sourcePayees)
	}
	kind, state := "refund", "settled"
	switch {
	case q.at < p.settled:
		kind, state = "cancellation", "pending"
	case p.source.rail == "sct_inst" && d.chance(k.recalls):
		kind = "recall"
	}
	if !q.contacted && d.chance(k.contacted) {
		c.contact(max(p.at+vaglio.Second, q.at-d.hours(spread{6, 0.2, 60})))
	}
	p.requested = true
	c.requests++
	id := c.plan.ids.id("rr_", c.index, c.requests)
	about := func(request string) vaglio.Fields {
		return c.entities("address", p.address, "customer", c.id, "device", q.device, "employee", q.employee, "instrument", p.source.id,
			"ip", q.ip, "merchant", p.merchant.id, "payment", p.id, "payout_instrument", q.payout, "request", request)
	}
	c.emit(vaglio.KindRefundRequested, q.at, q.amount, about(""), c.attributes("authentication", q.authentication, "channel", c.channel,
		"country", c.country, "payee_verification", q.payee, "payment_state", state, "rail", p.source.rail, "reason", q.reason,
		"requested_by", requestedBy, "type", kind))
	c.block.events[len(c.block.events)-1].ID = id
	row := truthRow{request: id, at: q.at, pattern: q.pattern, lookAlike: q.lookAlike, fraudType: patterns[q.pattern].fraudType}
	denied := d.chance(patterns[q.pattern].denied)
	answered := q.at + d.span(5*vaglio.Second, 5*vaglio.Minute)
	if denied || d.chance(0.25) {
		answered = q.at + d.hours(spread{1.5, 0.3, 20})
	}
	if denied {
		c.emit("refund_denied", answered, q.amount, about(id), nil)
	} else {
		c.refund(p, &q, answered, kind, about, id)
	}
	row.labelledAt = c.label(p, &q, answered, denied, about, id)
	c.block.truths = append(c.block.truths, row)
	if denied && !q.again && q.pattern == Honest && d.chance(0.25) {
		q.again, q.at, q.labelAt = true, c.awake(answered+d.span(12*vaglio.Hour, 5*vaglio.Day)), 0
		c.ask(p, q)
	}
}

// refund pays the request, now and then at the second attempt.
func (c *customer) refund(p *payment, q *claim, at vaglio.Instant, kind string, about func(request string) vaglio.Fields, id string) {
	p.refunded += q.amount
	if kind == "cancellation" && q.amount == p.amount {
		p.cancelled = at
		c.emit("payment_cancelled", at, q.amount, c.entities("customer", c.id, "payment", p.id, "request", id), nil)
	}
	if c.d.chance(0.012) {
		c.emit(vaglio.KindRefundFailed, at, q.amount, about(id), nil)
		at += c.d.span(2*vaglio.Hour, 48*vaglio.Hour)
	}
	c.emit(vaglio.KindRefundPaid, at, q.amount, about(id), nil)
}

var (
	fraudTypes = []choice{{"first_party", 0.6}, {"third_party", 0.25}, {"mule", 0.1}, {"ring", 0.05}}
)

// label emits disputes and labels, and returns the moment of the fraud label, 0 if none comes before the end.
func (c *customer) label(p *payment, q *claim, answered vaglio.Instant, denied bool, about func(request string) vaglio.Fields, id string) vaglio.Instant {
	k := knobs.base
	d := c.d
	t := &patterns[q.pattern]
	at, fraudType, source := q.labelAt, t.fraudType, d.pick(t.sources)
	if at == 0 {
		at = q.at + d.days(t.delay)
	}
	at = max(at, answered+vaglio.Minute)
	if q.labelAt != 0 {
		at += d.span(0, 20*vaglio.Minute)
	}
	told := !d.chance(t.never)
	disputed := denied && q.pattern != SpentDisowned && p.source.rail != "sct_inst" && d.chance(k.deniedDisputed)
	switch {
	case q.pattern == Honest:
		if told = d.chance(c.plan.config.WrongLabelShare); told {
			fraudType = d.pick(fraudTypes)
		} else if !denied && d.chance(k.reviewedClean) {
			c.confirm(vaglio.KindFraudCleared, answered-vaglio.Second, "reviewer", "", about, id)
		}
	case q.pattern == SpentDisowned:
		c.emit(vaglio.KindChargeback, answered+vaglio.Instant(float64(at-answered)*d.between(0.15, 0.5)), q.amount, c.disputeEntities(p, id), nil)
		c.emit("dispute_won", at-vaglio.Second, q.amount, c.disputeEntities(p, id), nil)
	case q.pattern == DoubleDip && p.source.rail == "direct_debit":
		source = "return"
		c.emit("payment_returned", at-vaglio.Second, p.amount, c.disputeEntities(p, ""), nil)
	case q.pattern == DoubleDip:
		c.emit(vaglio.KindChargeback, at-vaglio.Second, p.amount, c.disputeEntities(p, ""), nil)
	}
	if disputed { // a chargeback after a denial says nothing; a customer who wins it was honest
		charged := answered + d.days(spread{14, 4, 45})
		ended := charged + d.days(spread{35, 15, 80})
		c.emit(vaglio.KindChargeback, charged, q.amount, c.disputeEntities(p, id), nil)
		if q.pattern == Honest && !told && d.chance(k.disputeLost) {
			c.emit("dispute_lost", ended, q.amount, c.disputeEntities(p, id), nil)
			c.confirm(vaglio.KindFraudCleared, ended+vaglio.Minute, "dispute", "", about, id)
		} else {
			c.emit("dispute_won", ended, q.amount, c.disputeEntities(p, id), nil)
		}
	}
	if !told || at >= c.plan.config.Until {
		return 0
	}
	c.confirm(vaglio.KindFraudConfirmed, at, source, fraudType, about, id)
	if d.chance(c.plan.config.ClearedShare) {
		c.confirm(vaglio.KindFraudCleared, at+d.days(spread{20, 5, 60}), "investigation", "", about, id)
	}
	return at
}

// confirm emits a label; some are entered a little later than they were decided.
func (c *customer) confirm(kind string, at vaglio.Instant, source, fraudType string, about func(request string) vaglio.Fields, id string) {
	if at >= c.plan.config.Until {
		return
	}
	c.emit(kind, at, 0, about(id), c.attributes("fraud_type", fraudType, "source", source))
	if observed := at + c.d.span(0, 3*vaglio.Hour); c.d.chance(0.3) && observed < c.plan.config.Until {
		c.block.events[len(c.block.events)-1].ObservedAt = observed
	}
}
